"""A run goes back to an earlier checkpoint, and keeps what it leaves."""

from pathlib import Path

import numpy as np
import pytest

from fedpolyp import checkpoints, runs
from fedpolyp.checkpoints import Best, Checkpoint, DamagedCheckpoint
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError
from fedpolyp.rounds.observers.hospital_scores import Validation
from fedpolyp.runs import RunFolder
from fedpolyp.runs.going_back import go_back
from fedpolyp.watcher import Watcher
from tests.tiny import carry_here, tiny_config, tiny_run


def made(folder: Path, last: int, results: bool, marks: tuple[str, ...] = ("",)) -> RunFolder:
    """A run of so many rounds, as its files are; best on validation in round 1, then in round 4."""
    run = runs.create(folder, tiny_config(), Partition(("a",), {"hospital-1": HospitalImages(("b",), (), ())}))
    for round in range(last + 1):
        best = 4 if round >= 4 else min(round, 1)
        state = {f"model:{mark}" if mark else "model": {"w": np.full(2, round)} for mark in marks}
        now = Checkpoint(round, run.fingerprint(), state, dict.fromkeys(marks, Best(best, best / 10)))
        checkpoints.save(run.checkpoints, now, keep=3)
        scores = {"dice": 0.5, "iou": 0.5, "val_dice": 0.1, "loss": 1.0, "seconds": 1.0}
        run.append_round({"round": round, **scores, "bytes_up": 1, "bytes_down": 1, "hospitals": {}, "refused": []})
    for name in ("images.csv", "curves.png", "model-best.keras") if results else ():
        (run.path / name).write_text("results")
    return run


@pytest.mark.parametrize("marks", [("",), ("hospital-1", "hospital-2")])
def test_a_run_goes_on_after_the_round_it_went_back_to_and_nothing_is_deleted(
    tmp_path: Path, marks: tuple[str, ...]
) -> None:
    run = made(tmp_path / "run", 5, True, marks)
    records = run.rounds_file.read_text()
    go_back(run, 3)
    newest = checkpoints.latest(run.checkpoints, run.fingerprint(), lambda why: None)
    assert newest is not None and newest.round == 3
    for mark in marks:
        best = checkpoints.load(run.checkpoints, newest.best[mark].round, run.fingerprint())
        assert best.round == 1 and best.models[mark]["w"].tolist() == [1, 1]
    for later in (4, 5):
        assert checkpoints.load(run.path / "set-aside/1/checkpoints", later, run.fingerprint()).round == later
    aside = run.path / "set-aside" / "1"
    assert (aside / "rounds.jsonl").read_text() == records
    assert {"images.csv", "curves.png", "model-best.keras"} <= {file.name for file in aside.iterdir()}
    assert not run.images_file.exists() and not run.finished
    run.rewind(3)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]


def test_going_back_twice_keeps_both(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 5, False)
    go_back(run, 4)
    go_back(run, 3)
    assert sorted(path.name for path in run.path.glob("set-aside/*/checkpoints/*")) == [
        "round-000004.npz",
        "round-000005.npz",
    ]


def test_a_round_without_a_checkpoint_is_refused_and_those_there_are_named(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 5, True)
    for round in (0, 1, 6):
        with pytest.raises(UsageError, match=f"no checkpoint of round {round} to go back to; it has .*: 3, 4, 5$"):
            go_back(run, round)
    assert run.images_file.exists() and not (run.path / "set-aside").exists()


def test_the_newest_round_of_an_unfinished_run_is_gone_on_from_as_it_is(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 5, False)
    go_back(run, 5)
    assert not (run.path / "set-aside").exists()


def test_a_run_does_not_go_back_to_a_checkpoint_that_cannot_be_used(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 5, True)
    checkpoints.checkpoint_path(run.checkpoints, 3).write_bytes(b"damaged")
    with pytest.raises(DamagedCheckpoint, match=r"round-000003.npz is damaged"):
        go_back(run, 3)
    assert run.images_file.exists() and not (run.path / "set-aside").exists()


class KilledIn(Watcher):
    """Kills the process, as far as the run can tell, after a training of a round."""

    def __init__(self, round: int) -> None:
        self.round = round

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        """Kill it."""
        if (round, task) == (self.round, "train"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_hospitals_still_have_what_goes_with_the_model_that_was_best_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dices = {0: 0.0, 1: 0.5, 2: 0.1, 3: 0.9, 4: 0.2}
    monkeypatch.setattr(
        Validation, "_val_dice", lambda _, scored, record: (dices[record.round], {"": dices[record.round]})
    )
    config = tiny_config(algorithm__name="fedbn", federation__rounds=4, training__local_epochs=1)
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(KeyboardInterrupt):
        carry_here(run, config, KilledIn(4))
    go_back(run, 2)
    dices[3] = 0.3
    carry_here(run, config)
    assert checkpoints.load(run.checkpoints, 4, run.fingerprint()).best[""].round == 1
    assert ",best,1,test:hospital-1," in run.images_file.read_text()
