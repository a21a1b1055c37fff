"""A run that stops because its rounds do not get better on validation."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedpolyp.cli.tables import ending
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.rounds import here
from fedpolyp.rounds.observers.observer import Round
from fedpolyp.rounds.observers.patience import Patience
from fedpolyp.runs import RoundRecord, RunFolder
from fedpolyp.watcher import Watcher
from tests.command import exit_code
from tests.tiny import tiny_config, tiny_run

# A rate at which nothing is learned that validation would see, so that round 0 stays the best.
STUCK: dict[str, Any] = {"training__learning_rate": 1e-12, "training__local_epochs": 1, "federation__rounds": 9}


def carried(run: RunFolder, config: Config) -> None:
    here.run(config, run, open_source(config.data, config.data_seed), run.partition(), Watcher())


def test_it_stops_after_so_many_rounds_in_a_row_and_says_why_in_the_last_record(tmp_path: Path) -> None:
    config = tiny_config(**STUCK, federation__patience=2)
    carried(run := tiny_run(tmp_path / "run", config), config)
    records = run.rounds()
    best = max(range(len(records)), key=lambda number: (records[number]["val_dice"], -number))
    assert len(records) - 1 == best + 2 < 9
    assert records[-1]["stopped"] == f"no round after {best} was better on validation, for 2 rounds"
    assert not any("stopped" in record for record in records[:-1])


def test_the_round_that_turns_out_to_be_the_last_is_tested_and_every_image_is_scored(tmp_path: Path) -> None:
    config = tiny_config(**STUCK, federation__patience=1)
    carried(run := tiny_run(tmp_path / "run", config), config)
    last = run.rounds()[-1]
    assert all("test_dice" in own for own in last["hospitals"].values())
    rounds = {line.split(",")[3] for line in run.images_file.read_text().splitlines()[1:]}
    assert str(last["round"]) in rounds


def test_a_run_that_was_stopped_stays_so_when_it_is_resumed(tmp_path: Path) -> None:
    config = tiny_config(**STUCK, federation__patience=1)
    carried(run := tiny_run(tmp_path / "run", config), config)
    before, images = run.rounds_file.read_bytes(), run.images_file.read_bytes()
    run.images_file.unlink()
    carried(run, config)
    assert run.rounds_file.read_bytes() == before
    assert run.images_file.read_bytes() == images


def test_without_patience_all_rounds_are_carried_out(tmp_path: Path) -> None:
    config = tiny_config(**STUCK | {"federation__rounds": 3})
    carried(run := tiny_run(tmp_path / "run", config), config)
    assert len(run.rounds()) == 4
    assert "stopped" not in run.rounds()[-1]


def test_a_run_that_was_stopped_is_taken_no_further_and_its_ending_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(**STUCK, federation__patience=1, training__schedule="constant")
    carried(run := tiny_run(tmp_path / "run", config), config)
    code = exit_code(monkeypatch, "simulate", "--resume", str(run.path), "--rounds", "12")
    assert code == 2
    assert "has stopped for good, so --rounds cannot extend it: no round after" in capsys.readouterr().err
    assert ending(run.rounds()).startswith("stopped: no round after ")


@pytest.mark.parametrize(("lost", "stops"), [((), True), ((2,), False), ((3,), False)])
def test_a_round_that_was_lost_does_not_try_the_patience(lost: tuple[int, ...], stops: bool) -> None:
    """The best round is 1, patience is 2, and round 3 has just ended; what is lost has no result."""
    records = [{"round": number, **({"lost": "why"} if number in lost else {})} for number in range(3)]
    of: Any = SimpleNamespace(config=tiny_config(federation__patience=2), run=SimpleNamespace(rounds=lambda: records))
    record = RoundRecord(3, lost="why" if 3 in lost else "")
    checkpoint: Any = SimpleNamespace(best={"": SimpleNamespace(round=1)})
    seen = Round(checkpoint, record, planned_last=False)
    Patience(of).see(seen)
    assert seen.last == stops and bool(record.stopped) == stops
