"""Training steps of several programs, measured side by side: in turns, each in processes that stay warm."""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Side:
    """A program at work on a job file in `processes` processes at a time."""

    name: str
    command: tuple[str, ...]  # with PROGRAM JOB PRECISION THREADS, and what else the program wants
    processes: int
    environment: dict[str, str]


@dataclass
class Measured:
    """What came of a side."""

    speeds: list[float]  # images a second, of each turn
    losses: list[float]  # of the first steps, one a batch
    parameters: int
    version: str

    @property
    def speed(self) -> float:
        """Images a second, the middle of all turns."""
        return statistics.median(self.speeds)

    @property
    def spread(self) -> str:
        """The slowest and the fastest turn."""
        return f"{min(self.speeds):.1f} to {max(self.speeds):.1f}"


class Failed(Exception):
    """A program did not start or did not finish."""


def side_by_side(sides: Sequence[Side], batch: int, steps: int, turns: int) -> list[Measured | Failed]:
    """Each side's speed over `turns` turns, in each of which each of its processes does `steps` steps at once.

    In turns, because a machine's speed drifts by more than the sides differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        crews = [_Crew(side, Path(folder) / f"{number}") for number, side in enumerate(sides)]
        try:
            results = [crew.start() for crew in crews]
            for _ in range(turns):
                for crew, result in zip(crews, results, strict=True):
                    if isinstance(result, Measured):
                        result.speeds.append(batch * steps * crew.side.processes / crew.seconds(steps))
            return results
        finally:
            for crew in crews:
                crew.dismiss()


class _Crew:
    """The processes of one side."""

    def __init__(self, side: Side, errors: Path) -> None:
        self.side = side
        self.errors = errors
        self.members: list[subprocess.Popen[str]] = []

    def start(self) -> Measured | Failed:
        """Start all processes and wait until they have done their first steps."""
        about: dict[str, Any] = {}
        try:
            # One after the other, so that the second finds what the first has compiled.
            for _ in range(self.side.processes):
                with self.errors.open("a") as errors:
                    member = subprocess.Popen(
                        self.side.command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        text=True,
                        env=self.side.environment,
                    )
                self.members.append(member)
                about = json.loads(self._line(member))
        except (OSError, Failed) as error:
            return Failed(f"{self.side.name}: {error}")
        return Measured([], about["losses"], about["parameters"], about["version"])

    def seconds(self, steps: int) -> float:
        """How long it took until all were done, each with `steps` steps."""
        began = time.monotonic()
        for member in self.members:
            assert member.stdin is not None
            member.stdin.write(f"{steps}\n")
            member.stdin.flush()
        for member in self.members:
            self._line(member)
        return time.monotonic() - began

    def dismiss(self) -> None:
        """End all processes."""
        for member in self.members:
            member.kill()
            member.communicate()

    def _line(self, member: subprocess.Popen[str]) -> str:
        assert member.stdout is not None
        line = member.stdout.readline()
        if not line:
            said = self.errors.read_text(errors="replace").strip().splitlines()
            raise Failed(said[-1] if said else "it ended without a word")
        return line
