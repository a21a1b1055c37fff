"""What a person sees of a run: a live display on a terminal, plain lines elsewhere."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.watcher import Watcher


class PlainScreen(Watcher):
    """One line a round, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rounds = 0

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Say what is trained on what."""
        self.rounds = config.federation.rounds
        images = sum(len(hospital.train) for hospital in partition.hospitals.values())
        again = "" if round < 0 else f", going on after round {round}"
        self._say(
            f"{len(partition.hospitals)} hospitals, {images} training images, {len(partition.heldout)} held out, "
            f"{self.rounds} rounds{again}"
        )

    def finished_round(self, record: dict[str, Any]) -> None:
        """Say how the round's model scores."""
        val = record["val_dice"]
        self._say(
            f"round {record['round']:>{len(str(self.rounds))}}/{self.rounds}  loss {record['loss']:.3f}  "
            f"held-out Dice {record['dice']:.3f}  validation Dice {'-' if val is None else f'{val:.3f}'}  "
            f"{record['seconds']:.1f} s"
        )

    def note(self, text: str) -> None:
        """Say it."""
        self._say(f"note: {text}", "yellow")

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


class LiveScreen(PlainScreen):
    """The same lines, and below them a bar with the round, the hospitals still training, and the time left."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self._progress = progress
        self._bar = progress.add_task("starting", total=None, dice="")
        self._training: list[str] = []

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Begin the bar where the run begins."""
        super().started(config, partition, round)
        self._progress.update(self._bar, total=self.rounds, completed=max(0, round))

    def asked(self, round: int, task: str, hospitals: Sequence[str]) -> None:
        """Show who is at work."""
        self._training = list(hospitals)
        self._show(round, task)

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        """Take a hospital off the list; its share of the round is done."""
        if hospital in self._training:
            self._training.remove(hospital)
        self._show(round, task)

    def finished_round(self, record: dict[str, Any]) -> None:
        """Move the bar."""
        super().finished_round(record)
        self._progress.update(self._bar, completed=record["round"], dice=f"Dice {record['dice']:.3f}")

    def _show(self, round: int, task: str) -> None:
        doing = "training" if task == "train" else f"scoring {task}"
        left = ", ".join(self._training[:3]) + (" …" if len(self._training) > 3 else "")
        self._progress.update(self._bar, description=f"round {round}/{self.rounds} {doing} {left}")


def console_of_its_own() -> Console:
    """A console on today's standard output, wherever that is sent later: Ray prints there, too."""
    return Console(file=os.fdopen(os.dup(1), "w", encoding="utf-8"))


@contextmanager
def screen(console: Console, quiet: bool) -> Iterator[Watcher]:
    """The watcher that fits `console`: silent, a live display on a terminal, plain lines elsewhere."""
    if quiet:
        yield Watcher()
    elif not console.is_terminal:
        yield PlainScreen(console)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[dice]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as progress:
            yield LiveScreen(console, progress)
