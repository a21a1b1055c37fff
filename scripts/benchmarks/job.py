"""The job that everything is measured on, and `fedpolyp simulate` doing it in a process of its own."""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedpolyp.checkpoints import checkpoint_path
from fedpolyp.runs import RunFolder


@dataclass(frozen=True)
class Job:
    """Options of `fedpolyp simulate`."""

    options: tuple[str, ...]
    rounds: int


@dataclass
class Simulated:
    """What was seen of one `fedpolyp simulate`."""

    run: RunFolder
    whole: float = 0.0  # seconds
    ended: list[float] = field(default_factory=list)  # seconds from the start until each round's line was there
    begun: float = 0.0  # seconds until round 0 was scored and saved, when the first requests to train go out
    memory: dict[int, dict[str, float]] = field(default_factory=dict)  # by round: driver and largest actor, bytes

    def memory_after(self, round: int) -> dict[str, float]:
        """The first that was seen after `round`, or the last of all: quick rounds are not all caught."""
        return self.memory[min((known for known in self.memory if known >= round), default=max(self.memory))]

    def seconds(self) -> list[float]:
        """Wall time of each round, from line to line, so that the checkpoint between two lines counts.

        The first round traces and is left out, as is the last, which also tests.
        """
        return [later - before for before, later in itertools.pairwise(self.ended)][1:-1]


def simulate(job: Job, folder: Path) -> Simulated:
    """Do `job` and watch its rounds, clock and memory.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "fedpolyp", "simulate", "--quiet", "--out", str(folder), *job.options]
    started = time.monotonic()
    seen = Simulated(RunFolder(folder))
    with subprocess.Popen(
        [*command, "--rounds", str(job.rounds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None:
            done = len(seen.run.rounds()) if seen.run.rounds_file.exists() else 0
            if not seen.begun and checkpoint_path(seen.run.checkpoints, 0).exists():
                seen.begun = time.monotonic() - started
            seen.ended += [time.monotonic() - started] * (done - len(seen.ended))
            if done > 1 and done - 1 not in seen.memory:
                seen.memory[done - 1] = _memory(process.pid)
            time.sleep(0.05)
        output = process.stdout.read() if process.stdout else ""
    seen.whole = time.monotonic() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output}")
    return seen


def median(values: list[float]) -> float:
    """The middle one: a neighbour's burst of work does not count."""
    return statistics.median(values)


def _memory(driver: int) -> dict[str, float]:
    """Memory of the driver and of the largest actor: what is theirs alone and their share of the rest (PSS), bytes."""
    actors = [_pss(process) for process, command in _below(driver) if b"ClientAppActor" in command]
    return {"driver": _pss(driver), "actor": max(actors, default=0.0), "all": _pss(driver) + sum(actors)}


def _below(process: int) -> Iterator[tuple[int, bytes]]:
    """The processes that `process` started, directly or not, with their command lines."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    waiting = list(children.get(process, []))
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        try:
            yield one, Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue


def _pss(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0.0)


def machine() -> str:
    """Processor and cores, as far as the machine tells."""
    from fedpolyp.runs import environment

    about = environment()
    versions = about["packages"]
    return f"{about['processor']}, {os.cpu_count()} cores, {about['platform']}, TensorFlow {versions['tensorflow']}"
