"""What `fedpolyp simulate --resume` takes and refuses, before anything is trained."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fedpolyp import checkpoints, runs
from fedpolyp.algorithms.finding import make
from fedpolyp.checkpoints import Best, Checkpoint, DamagedCheckpoint
from fedpolyp.config import load
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RoundRecord, RunFolder
from fedpolyp.sites.progress import new_lines, progress_file
from fedpolyp.watcher import Watcher
from tests.command import exit_code

SMALL = {"data.image_size": 32, "hospitals.count": 2, "algorithm.name": "pooled", "training.learning_rate": 0.003}


def folder_of_images(path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    for number in range(20):
        mask = np.zeros((40, 40), np.uint8)
        mask[5 : 10 + number, 8:30] = 255
        cv2.imwrite(str(path / "masks" / f"{number:02d}.png"), mask)
        cv2.imwrite(str(path / "images" / f"{number:02d}.png"), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    return path


def begun(path: Path, **settings: Any) -> RunFolder:
    config = load(overrides=SMALL | {name.replace("__", "."): value for name, value in settings.items()})
    store = open_source(config.data, config.data_seed)
    return runs.create(path, config, partition_images(store.records, config), store.path)


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunFolder]:
    """The runs that would have been trained."""
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    seen: list[RunFolder] = []

    def note(config: Any, run: RunFolder, *others: Any) -> None:
        seen.append(run)
        raise KeyboardInterrupt

    monkeypatch.setattr("fedpolyp.rounds.here.run", note)
    return seen


def resume(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, "simulate", "--quiet", "--resume", *arguments)


Captured = pytest.CaptureFixture[str]


def test_a_run_of_the_same_images_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder]
) -> None:
    run = begun(tmp_path / "run", data__source=str(folder_of_images(tmp_path / "polyps")))
    assert resume(monkeypatch, str(run.path)) == 1
    assert trained == [run]


def test_who_looks_meanwhile_reads_who_was_asked_for_what_and_why_it_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken_off(config: Any, run: RunFolder, store: Any, partition: Any, watcher: Watcher) -> None:
        watcher.asked(1, "train", ["pooled"])
        raise KeyboardInterrupt

    monkeypatch.setattr("fedpolyp.rounds.here.run", broken_off)
    run = begun(tmp_path / "run", data__source=str(folder_of_images(tmp_path / "data")))
    assert resume(monkeypatch, str(run.path)) == 1
    events, _ = new_lines(progress_file(run), 0)
    assert [event["event"] for event in events] == ["asked", "failed"]
    assert events[0]["hospitals"] == ["pooled"] and events[1]["reason"] == "interrupted"


def test_masks_changed_in_place_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    folder = folder_of_images(tmp_path / "polyps")
    run = begun(tmp_path / "run", data__source=str(folder))
    mask = np.zeros((40, 40), np.uint8)
    mask[:9, :9] = 255
    cv2.imwrite(str(folder / "masks" / "07.png"), mask)
    assert resume(monkeypatch, str(run.path)) == 2
    said = capsys.readouterr().err
    assert f"{run.path} cannot be resumed: its masks have changed since it began; " in said
    assert "resume with" not in said and said.count("\n") == 1
    assert trained == []


def test_a_pixel_flipped_in_the_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40)
    (images,) = (tmp_path / "stores").glob("*/images.npy")
    content = bytearray(images.read_bytes())
    content[-5] ^= 1
    images.write_bytes(content)
    assert resume(monkeypatch, str(run.path)) == 2
    assert "the store was changed" in capsys.readouterr().err
    assert trained == []


def test_ids_swapped_between_held_out_and_training_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40)
    plain = json.loads(run.partition_file.read_text())
    train = plain["hospitals"]["hospital-1"]["train"]
    plain["heldout"][0], train[0] = train[0], plain["heldout"][0]
    run.partition_file.write_text(json.dumps(plain))
    assert resume(monkeypatch, str(run.path)) == 1
    assert f"{run.partition_file} was changed" in capsys.readouterr().err
    assert trained == []


def test_a_moved_folder_is_given_and_kept_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    old, new = folder_of_images(tmp_path / "old"), tmp_path / "new"
    run = begun(tmp_path / "run", data__source=str(old))
    before = run.fingerprint()
    old.rename(new)
    assert resume(monkeypatch, str(run.path)) == 2
    assert "give --data FOLDER together with --resume" in capsys.readouterr().err
    assert resume(monkeypatch, str(run.path), "--data", str(new)) == 1
    assert run.config().data.source == str(new) and run.fingerprint() == before
    assert Path(run.environment()["store"]).name.startswith("new-")
    assert resume(monkeypatch, str(run.path)) == 1
    assert trained == [run, run]


def test_another_folder_than_the_runs_is_refused_and_the_run_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    folder = folder_of_images(tmp_path / "polyps")
    run = begun(tmp_path / "run", data__source=str(folder))
    shutil.copytree(folder, tmp_path / "other")
    shutil.copy(folder / "images" / "01.png", tmp_path / "other" / "images" / "02.png")
    before = run.config_file.read_bytes()
    assert resume(monkeypatch, str(run.path), "--data", str(tmp_path / "other")) == 2
    assert "its images have changed since it began" in capsys.readouterr().err
    assert run.config_file.read_bytes() == before and trained == []


def test_a_folder_without_the_runs_images_is_said_to_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__source=str(folder_of_images(tmp_path / "polyps")))
    other = folder_of_images(tmp_path / "other")
    for file in [*other.glob("*/00.png"), *other.glob("*/01.png")]:
        file.rename(file.with_name("p" + file.name))
    assert resume(monkeypatch, str(run.path), "--data", str(other)) == 2
    assert "cannot be resumed: the folder holds other images than the run's" in capsys.readouterr().err
    assert trained == []


def test_a_finished_run_is_taken_further_where_its_learning_rate_is_constant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder]
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40, federation__rounds=3, training__schedule="constant")
    run.write_images([])
    run.curves.touch()
    before = run.fingerprint()
    assert run.finished
    assert resume(monkeypatch, str(run.path), "--rounds", "5") == 1
    assert (run.config().federation.rounds, run.finished, run.fingerprint()) == (5, False, before)
    assert trained == [run]


@pytest.mark.parametrize(
    ("schedule", "options", "said"),
    [
        ("cosine", ["--rounds", "5"], "the learning rate of this run falls over its 3 rounds (cosine)"),
        ("constant", ["--rounds", "2"], "the run has 3; got --rounds 2"),
        ("constant", ["--batch-size", "2"], "so --batch-size cannot be given; allowed are --data, --rounds, "),
    ],
)
def test_what_would_be_another_experiment_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: list[RunFolder],
    capsys: Captured,
    schedule: str,
    options: list[str],
    said: str,
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40, federation__rounds=3, training__schedule=schedule)
    before = run.config_file.read_bytes()
    assert resume(monkeypatch, str(run.path), *options) == 2
    error = capsys.readouterr().err
    assert said in error and "resume with" not in error
    assert run.config_file.read_bytes() == before and trained == []


def test_a_run_that_has_lost_its_digest_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40)
    run.digest_file.unlink()
    assert resume(monkeypatch, str(run.path)) == 2
    said = capsys.readouterr().err
    assert "has no digest.json, which identifies its images" in said and said.count("\n") == 1
    assert trained == []


def finished(path: Path, algorithm: str = "pooled", **settings: Any) -> RunFolder:
    """A run of two rounds as it is when it has ended, and could have more."""
    from fedpolyp.training import shared_trainer

    run = begun(
        path,
        data__phantom_images=40,
        federation__rounds=2,
        training__schedule="constant",
        model__base_filters=1,
        algorithm__name=algorithm,
        **settings,
    )
    state = make(run.config(), sorted(run.partition().hospitals)).begin(shared_trainer(run.config()).start)
    for round in range(3):
        checkpoints.save(run.checkpoints, Checkpoint(round, run.fingerprint(), state, {"": Best()}), keep=2)
        run.append_round(RoundRecord(round, {"dice": 0.1, "iou": 0.1, "loss": 1.0}).to_plain())
    run.write_images([])
    for name in ("curves.png", "model-last.keras", "predictions.npz"):
        (run.path / name).write_text("result")
    return run


def content(run: RunFolder) -> dict[str, bytes]:
    files = (path for path in run.path.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


def damage(run: RunFolder) -> None:
    for file in run.checkpoints.iterdir():
        file.write_bytes(b"damaged")


def give_another_rate(run: RunFolder) -> None:
    text = run.config_file.read_text()
    changed = re.sub("learning_rate = [0-9.]+", "learning_rate = 0.004", text)
    assert changed != text
    run.config_file.write_text(changed)


def give_another_model(run: RunFolder) -> None:
    small = checkpoints.load(run.checkpoints, 2, None)
    for round in (1, 2):
        state = {**small.state, "model": {name: array[..., :0] for name, array in small.state["model"].items()}}
        checkpoints.save(run.checkpoints, replace(small, round=round, state=state), keep=2)


def give_another_algorithm(run: RunFolder) -> None:
    whole = checkpoints.load(run.checkpoints, 2, None)
    for round in (1, 2):
        state = {**whole.state, "control": whole.state["model"]}
        checkpoints.save(run.checkpoints, replace(whole, round=round, state=state), keep=2)


def lose_a_record(run: RunFolder) -> None:
    run.rounds_file.write_text("".join(run.rounds_file.read_text().splitlines(keepends=True)[:1]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "no checkpoint in"),
        (give_another_rate, "no checkpoint in"),
        (give_another_model, "does not fit the run's model: array "),
        (give_another_algorithm, "does not fit the run: it has different control"),
        (lose_a_record, "does not hold every round up to 2"),
    ],
)
def test_a_refused_resume_leaves_a_finished_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured, spoil: Any, said: str
) -> None:
    run = finished(tmp_path / "run")
    spoil(run)
    before = content(run)
    assert resume(monkeypatch, str(run.path), "--rounds", "5") == 1
    assert said in capsys.readouterr().err
    assert content(run) == before and run.finished and trained == []


def test_more_rounds_of_which_one_would_stop_the_run_leave_a_finished_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    # Drawn from the seed: nobody drops out of rounds 1 and 2.
    run = finished(tmp_path / "run", "fedavg", federation__drop_rate=0.3, federation__min_replies=1.0, seed=9)
    before = content(run)
    assert resume(monkeypatch, str(run.path), "--rounds", "5") == 2
    assert "would stop the run: " in capsys.readouterr().err
    assert content(run) == before and run.finished


def test_a_ray_that_cannot_be_reached_leaves_a_finished_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run = finished(tmp_path / "run", "fedavg")
    before = content(run)
    for more in (["--rounds", "5"], ["--from-round", "1"]):
        assert resume(monkeypatch, str(run.path), *more, "--ray-address", "127.0.0.1:1") == 2
        assert "no Ray cluster answers" in capsys.readouterr().err
        assert content(run) == before


def test_the_results_of_a_run_that_is_taken_further_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder]
) -> None:
    run = finished(tmp_path / "run")
    before = content(run)
    assert resume(monkeypatch, str(run.path), "--rounds", "5") == 1
    assert trained == [run] and not run.finished
    aside = content(RunFolder(run.path / "set-aside" / "1"))
    assert aside == {name: before[name] for name in aside}
    assert {"images.csv", "curves.png", "model-last.keras", "predictions.npz", "rounds.jsonl"} == aside.keys()


def test_no_command_is_advised_that_has_just_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40)
    run.append_round(RoundRecord(0, {"dice": 0.1, "iou": 0.1, "loss": 1.0}).to_plain())
    for error, advised in ((DamagedCheckpoint("no checkpoint can be used"), False), (FedpolypError("a fault"), True)):

        def fail(*arguments: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("fedpolyp.rounds.here.run", fail)
        assert resume(monkeypatch, str(run.path)) == 1
        assert (f"resume with: fedpolyp simulate --resume {run.path}" in capsys.readouterr().err) == advised


def test_a_ray_for_an_arm_that_uses_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[RunFolder], capsys: Captured
) -> None:
    run = begun(tmp_path / "run", data__phantom_images=40)
    assert resume(monkeypatch, str(run.path), "--ray-address", "127.0.0.1:1") == 2
    assert "--ray-address is for a federation; pooled trains in this process" in capsys.readouterr().err
    assert trained == []


def test_a_round_that_has_a_record_and_no_checkpoint_is_not_called_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run = finished(tmp_path / "run")
    checkpoints.checkpoint_path(run.checkpoints, 2).unlink()
    assert resume(monkeypatch, str(run.path)) == 1
    assert "\n1 round is complete; resume with: " in capsys.readouterr().err
