"""`fedpolyp evaluate` scores a model as a comparison does, and at the images' own size, and says when it knows them."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpolyp.data.source import open_source
from fedpolyp.report.finish import finish
from fedpolyp.runs import RunFolder
from tests.command import exit_code
from tests.real_sites import draw_images
from tests.tiny import carry_here, tiny_config, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(
        data__source=str(draw_images(folder / "images", 40)), training__precision="float32", federation__rounds=2
    )
    made = tiny_run(folder / "run", config)
    carry_here(made, config)
    finish(made, open_source(config.data, config.seed))
    return made


@pytest.fixture(scope="module")
def corrupted(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's held-out images scored as they are and made worse: the folder of the scores, and what was said."""
    out, said = tmp_path_factory.mktemp("scored") / "out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        assert called(patch, "--model", run.path, "--out", out, "--corrupt") == 0
    return out, said.getvalue()


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setenv("COLUMNS", "160")
    return exit_code(monkeypatch, "evaluate", *arguments)


def test_a_run_is_scored_on_its_held_out_images_as_it_scored_itself(
    run: RunFolder, corrupted: tuple[Path, str]
) -> None:
    out, said = corrupted
    assert "the model after the last round, round 2 of 2, held-out Dice" in said and "note:" not in said
    scores = json.loads((out / "scores.json").read_text())
    last = run.rounds()[-1]
    assert scores["images"] == len(run.partition().heldout)
    assert scores["model_size"]["dice"]["value"] == pytest.approx(last["dice"])
    assert scores["model_size"]["iou"]["value"] == pytest.approx(last["iou"])
    assert set(scores["corrupted_dice"]) == {"blur", "noise", "jpeg", "darkness", "reflections"}
    with run.images_file.open(newline="") as stream:
        theirs = {
            row["id"]: [row[name] for name in ("tp", "fp", "fn", "tn")]
            for row in csv.DictReader(stream)
            if (row["model"], row["set"]) == ("last", "heldout")
        }
    with (out / "images.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["id"]: [row[name] for name in ("tp", "fp", "fn", "tn")] for row in rows} == theirs
    for row in rows:  # of 64 pixels a side, twice the model's
        assert sum(int(row[f"own_{name}"]) for name in ("tp", "fp", "fn", "tn")) == 64 * 64
        mask = cv2.imread(str(Path(str(run.config().data.source)) / "masks" / f"{row['id']}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None and int(row["own_tp"]) + int(row["own_fn"]) == (mask > 0).sum()


def test_it_says_that_a_runs_held_out_camera_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(hospitals__scheme="acquisition", hospitals__heldout_camera=True, federation__rounds=1)
    made = tiny_run(tmp_path / "run", config)
    carry_here(made, config)
    finish(made, open_source(config.data, config.seed))
    assert called(monkeypatch, "--model", made.path, "--out", tmp_path / "out") == 0
    assert "note: the run's held-out images were taken by a camera of their own; here" in capsys.readouterr().out


def test_a_model_tells_of_images_that_it_was_trained_on(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(run.model_file("last"), tmp_path / "taken-away.keras")
    moved = shutil.copytree(str(run.config().data.source), tmp_path / "moved")
    assert called(monkeypatch, "--model", file, "--data", moved, "--out", tmp_path / "out") == 0
    own = run.partition().hospitals.values()
    known = sum(len(one.train) + len(one.val) for one in own)
    assert f"note: the model was trained or selected on {known} of these 40 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "{file}"], "--data must be given: a model saved as .keras has no images of its own"),
        (["--model", "{run}", "--masks", "as-they-are"], "without --data a run's own images are used as they are"),
        (["--model", "{run}", "--preset", "seed"], "without --data a run's own images are used as they are"),
        (["--model", "{run}", "--threshold", "0"], "--threshold must be above 0 and below 1, or 'validation'; got 0"),
    ],
)
def test_a_mistake_is_one_sentence(
    run: RunFolder,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"file": run.model_file("last"), "run": run.path}
    given = [argument.format(**names) for argument in arguments]
    assert called(monkeypatch, *given, "--out", tmp_path / "out") == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_frames_without_a_polyp_alone_have_no_overlap_to_score(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = draw_images(tmp_path / "frames", 3)
    for mask in (frames / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros((64, 64), np.uint8))
    arguments = ("--data", frames, "--masks", "as-they-are", "--corrupt", "--out", tmp_path / "out")
    assert called(monkeypatch, "--model", run.path, *arguments) == 0
    said = capsys.readouterr().out
    assert "no image has a polyp, so there is no overlap or distance to score" in said and "HD95" not in said
    assert "3 images without a polyp" in said
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores["model_size"].values()) == set(scores["own_size"].values()) == {None}
    assert "corrupted_dice" not in scores and scores["without_polyp"]["images"] == 3


def test_nothing_is_written_into_a_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--model", run.path, "--out", run.path / "scores") == 2
    assert "is the folder of a single run, where nothing else is written" in capsys.readouterr().err
    assert not (run.path / "scores").exists()


def test_a_report_shows_the_models_images_made_worse_once_and_tells_what_evaluate_does(
    run: RunFolder, corrupted: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads((corrupted[0] / "scores.json").read_text())
    for measured in (True, False):
        capsys.readouterr()
        exit_code(monkeypatch, "report", str(run.path), "--robustness")
        assert ("images made worse" in capsys.readouterr().out) == measured
    with (run.path / "tables" / "robustness.csv").open(newline="") as stream:
        told = {(row["kind"], int(row["severity"])): float(row["dice"]) for row in csv.DictReader(stream)}
    assert told == {
        (kind, at): pytest.approx(dice, abs=1e-5)
        for kind, dices in scores["corrupted_dice"].items()
        for at, dice in enumerate(dices, 1)
    }
    error = float((run.path / "tables" / "calibration.csv").read_text().splitlines()[1].split(",")[1])
    assert error == pytest.approx(scores["calibration_error"], abs=1e-5)
