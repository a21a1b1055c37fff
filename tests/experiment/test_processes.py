"""Runs, each in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedpolyp.config import RuntimeConfig
from fedpolyp.experiment.processes import LOG, Failure, _die_with_us, _Running, resume_command


def test_each_run_gets_the_runtime_settings_that_were_given_and_no_others() -> None:
    cluster = RuntimeConfig(ray_address="10.0.0.1:6379", keep_checkpoints=3)
    expected = "fedpolyp simulate --resume c/fedavg/0 --quiet --ray-address=10.0.0.1:6379 --keep-checkpoints=3"
    assert resume_command(Path("c/fedavg/0"), cluster)[3:] == expected.split()
    here = resume_command(Path("c/fedavg/0"), RuntimeConfig(actors=2, gpus_per_client=0.5))
    assert here[-3:] == ["--actors=2", "--gpus-per-client=0.5", "--keep-checkpoints=2"]


def test_a_run_hears_an_interrupt_though_compare_was_started_in_the_background() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a shell does to a command with & behind it
    try:
        program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        child = subprocess.run([sys.executable, "-c", program], preexec_fn=_die_with_us, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.stdout == "True\n"


@pytest.mark.parametrize(("advice", "passing"), [("", False), ("1 round is complete; resume with: fedpolyp x\n", True)])
def test_the_same_command_is_advised_only_where_a_failed_run_may_go_on(
    advice: str, passing: bool, tmp_path: Path
) -> None:
    (tmp_path / LOG).write_text(f"fedpolyp: round 1: the training has diverged\n{advice}")
    process: Any = SimpleNamespace(returncode=1)
    job: Any = None
    found = _Running(job, process, tmp_path / LOG, 0).failure()
    assert found == Failure("round 1: the training has diverged", passing)
