import json
from pathlib import Path
from typing import Any

import pytest

from fedpolyp import runs
from fedpolyp.cli.console import PlainConsole
from fedpolyp.config import load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs import RunFolder
from tests.command import exit_code

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def record(round: int, dice: float, val_dice: float | None) -> dict[str, Any]:
    own = {"images": 3, "train_loss": 1.0} | ({} if val_dice is None else {"val_dice": val_dice})
    scores = {"round": round, "dice": dice, "iou": dice / 2, "val_dice": val_dice, "loss": 1.0, "seconds": 2.5}
    return scores | {"bytes_up": 1, "bytes_down": 1, "hospitals": {"hospital-1": own}, "refused": []}


def made(folder: Path, records: list[dict[str, Any]], scored: bool = False) -> RunFolder:
    config = load(overrides={"federation.rounds": 3, "data.source": "/somewhere/polyps", "hospitals.count": 4})
    run = runs.create(folder, config, PARTITION)
    run.rounds_file.write_text("".join(json.dumps(each) + "\n" for each in records))
    if scored:
        run.write_images([])
    return run


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str, columns: int = 100) -> int:
    monkeypatch.setenv("COLUMNS", str(columns))
    return exit_code(monkeypatch, "runs", *arguments)


def cells(text: str, first: str) -> list[str]:
    """The cells of the row that begins with `first`."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def test_the_list_tells_how_far_each_run_came_and_what_it_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [record(0, 0.1, 0.1), record(1, 0.4, 0.6), record(2, 0.5, 0.3), record(3, 0.45, 0.2)]
    made(tmp_path / "done", rounds, scored=True)
    made(tmp_path / "killed", rounds[:2])
    made(tmp_path / "just-begun", [])
    made(tmp_path / "[b]unvalidated", [record(0, 0.1, None)])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.toml").write_text("no toml")
    broken = made(tmp_path / "broken", rounds[:2])
    broken.rounds_file.write_text(broken.rounds_file.read_text().replace("0.4", "4"))
    (tmp_path / "no-run").mkdir()
    assert called(monkeypatch, "--root", str(tmp_path)) == 0
    listed = capsys.readouterr().out
    assert cells(listed, "done")[1:] == ["polyps", "complete", "4", "3/3", "0.450", "0.400"]
    assert cells(listed, "killed")[1:] == ["polyps", "unfinished", "4", "1/3", "0.400", "0.400"]
    assert cells(listed, "just-begun")[1:] == ["polyps", "unfinished", "4", "0/3", "-", "-"]
    assert cells(listed, "[b]unvalidated")[1:] == ["polyps", "unfinished", "4", "0/3", "0.100", "-"]
    assert cells(listed, "broken")[1:4] == ["polyps", "damaged", "rounds.jsonl"]
    assert cells(listed, "damaged")[2] == "unreadable"
    assert "no-run" not in listed


def test_the_runs_of_a_comparison_are_listed_by_arm_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "skewed" / "pooled" / "0", [record(0, 0.1, 0.1)])
    for root, name in ((tmp_path, "skewed/pooled/0"), (tmp_path / "skewed", "pooled/0")):
        assert called(monkeypatch, "--root", str(root)) == 0
        assert cells(capsys.readouterr().out, name)[1:3] == ["polyps", "unfinished"]
        assert called(monkeypatch, "show", name, "--root", str(root)) == 0
        capsys.readouterr()


def test_a_long_name_is_printed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "20260131-235958-kvasir-seg-with-a-very-long-name-of-its-own-5-hospitals"
    made(tmp_path / name, [])
    called(monkeypatch, "--root", str(tmp_path))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert name in "".join(line[0] for line in lines if line)


def test_an_empty_list_says_how_to_make_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch) == 0
    assert capsys.readouterr().out == "no runs in runs; 'fedpolyp simulate' makes one\n"


def test_a_root_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--root", str(tmp_path / "x")) == 2
    assert f"there is no folder {tmp_path / 'x'}" in capsys.readouterr().err


@pytest.mark.parametrize("order", [["--root", "{}", "show", "done"], ["show", "done", "--root", "{}"]])
def test_a_run_is_shown_by_name_whichever_side_the_root_is_given(
    order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "done", [record(0, 0.1, 0.1)])
    assert called(monkeypatch, *(word.format(tmp_path) for word in order)) == 0
    assert f"unfinished run in {tmp_path / 'done'}" in capsys.readouterr().out


def test_a_shown_run_tells_its_scores_and_what_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [record(0, 0.1, 0.1), record(1, 0.4, 0.6), record(2, 0.5, 0.3), record(3, 0.45, 0.2)]
    rounds[1]["refused"] = [{"hospital": "hospital-9", "reason": "array 'w' has [b]NaN"}]
    rounds[3]["hospitals"]["hospital-1"]["test_dice"] = 0.987
    run = made(tmp_path / "run", rounds, scored=True)
    run.model_file("best").touch()
    assert called(monkeypatch, "show", str(run.path)) == 0
    shown = capsys.readouterr().out
    assert cells(shown, "1*") == ["1*", "1.000", "0.400", "0.600", "0.60", "2.5"]
    assert "last round (3): held-out Dice 0.450, IoU 0.225" in shown
    assert "best on validation (1): held-out Dice 0.400, IoU 0.200 (model-best.keras)" in shown
    assert "own test images, last round: hospital-1 0.987" in shown
    assert "round 1: hospital-9 was rejected: array 'w' has [b]NaN" in shown
    assert f"complete run in {run.path}" in shown


def test_a_run_without_a_round_or_no_run_at_all_is_an_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "begun", [])
    assert called(monkeypatch, "show", str(tmp_path / "begun")) == 1
    assert capsys.readouterr().err == f"fedpolyp: {tmp_path / 'begun'} has no complete round yet\n"
    assert called(monkeypatch, "show", str(tmp_path)) == 2
    assert f"there is no run '{tmp_path}'" in capsys.readouterr().err


def test_a_runs_name_stays_in_one_piece_on_eighty_columns_and_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "20260131-235959-cvc-clinicdb-5-hospitals"
    made(tmp_path / name, [record(0, 0.1, 0.1)])
    for terminal, columns in ((True, 80), (False, 80), (True, 60)):
        monkeypatch.setattr(PlainConsole, "is_terminal", terminal)
        assert called(monkeypatch, "--root", str(tmp_path), columns=columns) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if name in line]
        assert columns != 80 or not terminal or len(row) <= 80
        assert ("polyps" in row) is not terminal
        assert row.split()[-3:] == ["0/3", "0.100", "0.100"]
