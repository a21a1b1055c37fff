"""How a run's processes stop, and that nobody else can reach them."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedpolyp import checkpoints
from fedpolyp.runs import RunFolder
from tests.hostile_folder import HOSTILE, executed, hostile_folder
from tests.test_command_line import FEDPOLYP, ROOT

# A bound on hanging alone, on a machine that does much else: what is promised is 10 s, and the training takes minutes.
HUNG = 120
LONG = (
    "simulate --image-size 32 --phantom-images 60 --hospitals 2 --base-filters 4 --batch-size 4 --local-epochs 500 "
    "--rounds 50 --out run"
).split()

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short name."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as name:
        monkeypatch.setenv("RAY_TMPDIR", name)
        yield Path(name)


def begun(cwd: Path) -> "subprocess.Popen[str]":
    """A run of 500 local epochs."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen([*FEDPOLYP, *LONG], cwd=cwd, env=environment, text=True, stdout=pipe, stderr=pipe)


def wait_until(seen: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 500
    while not seen():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGINT] * 3, [signal.SIGTERM]], ids=["once", "often", "term"]
)
def test_an_interrupt_ends_a_long_training_within_seconds_and_says_how_to_go_on(
    tmp_path: Path, short: Path, signals: list[int], ray_processes: Callable[[], dict[int, str]]
) -> None:
    run, process = RunFolder(tmp_path / "run"), begun(tmp_path)
    wait_until(lambda: run.rounds() and any("ClientAppActor.run" in name for name in ray_processes().values()), process)
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    said, complained = process.communicate(timeout=HUNG)
    print(f"ended within {time.monotonic() - began:.1f} s")
    assert process.returncode == 1
    assert re.fullmatch(
        r"fedpolyp: interrupted.*\nno round is complete yet; resume with: fedpolyp simulate --resume run\n", complained
    )
    assert "Traceback" not in said
    assert ray_processes() == {} and list(short.iterdir()) == []
    assert not run.at_work
    assert checkpoints.load(run.checkpoints, 0, run.fingerprint()).round == 0


def test_an_interrupt_before_ray_is_up_ends_the_run_too(
    tmp_path: Path, short: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    process = begun(tmp_path)
    wait_until(lambda: any("gcs_server" in name for name in ray_processes().values()), process)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=HUNG)
    assert (process.returncode, complained) == (1, "fedpolyp: interrupted\n") or "before the first round" in complained
    assert "Traceback" not in said + complained
    assert ray_processes() == {} and list(short.iterdir()) == []


def test_a_run_whose_gcs_server_was_killed_ends_at_once_and_says_so(
    tmp_path: Path, short: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    run, process = RunFolder(tmp_path / "run"), begun(tmp_path)
    wait_until(run.rounds, process)
    (server,) = [number for number, name in ray_processes().items() if "gcs/gcs_server" in name]
    os.kill(server, signal.SIGKILL)
    _, complained = process.communicate(timeout=HUNG)
    assert process.returncode == 1
    assert "fedpolyp: Ray's process 'gcs_server' has died" in complained and "--resume run" in complained
    deadline = time.monotonic() + HUNG  # actors look for their raylet now and then
    while ray_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ray_processes() == {} and list(short.iterdir()) == []


@pytest.mark.parametrize("command", ["simulate", "compare --arms pooled"])
def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, command: str) -> None:
    folder = hostile_folder(tmp_path / "own", *HOSTILE)
    options = "--image-size 32 --phantom-images 40 --hospitals 2 --base-filters 2 --rounds 1 --out out".split()
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.pathsep}."}  # 'fedpolyp' itself is found first
    program = [sys.executable, "-P", "-m", "fedpolyp"]  # as the script 'fedpolyp' does, which pip makes
    done = subprocess.run(
        [*program, *command.split(), *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert executed(folder) == []
    assert done.returncode == 0, done.stderr
