"""When a resume is advised, and when a run goes back."""

from pathlib import Path
from typing import Any

import pytest

from fedpolyp.divergence import diverged
from fedpolyp.errors import FedpolypError
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from tests.command import exit_code
from tests.tiny import tiny_config, tiny_run


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = exit_code(monkeypatch, "simulate", *arguments)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("hopeless", [True, False])
def test_a_resume_is_advised_only_where_it_can_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hopeless: bool
) -> None:
    run = tiny_run(tmp_path / "run", tiny_config(algorithm__name="pooled"))
    record = {"round": 0, "dice": 0.5, "iou": 0.5, "val_dice": 0.5, "loss": 1.0, "seconds": 1.0}
    run.append_round(record | {"bytes_up": 0, "bytes_down": 0, "hospitals": {}, "refused": []})

    def broken(config: Any, run: RunFolder, *others: Any) -> None:
        raise diverged("round 1: the training has diverged", config) if hopeless else FedpolypError("no space")

    monkeypatch.setattr(here, "run", broken)
    code, said = fails(monkeypatch, capsys, "--resume", str(run.path))
    assert code == 1 and ("--resume" in said) is not hopeless
    assert ("learning rate that is too high (it was 0.005)" in said) is hopeless


def test_going_back_needs_a_run_and_a_checkpoint_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(monkeypatch, capsys, "--from-round", "1")[0] == 2
    run = tiny_run(tmp_path / "run", tiny_config(algorithm__name="pooled"))
    code, said = fails(monkeypatch, capsys, "--resume", str(run.path), "--from-round", "1")
    assert code == 2 and "has no checkpoint of round 1 to go back to; it has those of rounds: none" in said
