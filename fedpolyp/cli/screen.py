"""The output of a run: a live display on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedpolyp.cli.console import PlainConsole
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.privacy.words import spent
from fedpolyp.text import printable
from fedpolyp.watcher import Watcher


class PlainScreen(Watcher):
    """One line for each round, for logs and pipes."""

    def __init__(self, console: PlainConsole) -> None:
        self.console = console
        self.rounds = 0
        self.scored_on = "held-out"

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Print what is trained on what."""
        self.rounds = config.federation.rounds
        images = sum(len(hospital.train) for hospital in partition.hospitals.values())
        again = "" if round < 0 else f", resumed after round {round}"
        self.scored_on = "held-out" if partition.heldout else "test"
        parts = [f"{len(partition.hospitals)} hospitals"]
        if images:  # real sites do not say
            parts.append(f"{images} training images")
        parts += [f"{len(partition.heldout)} held out", f"{self.rounds} rounds{again}"]
        self._say(", ".join(parts))

    def finished_round(self, record: dict[str, Any]) -> None:
        """Print the scores of the round's model."""
        val, loss = ("-" if record[name] is None else f"{record[name]:.3f}" for name in ("val_dice", "loss"))
        self._say(
            f"round {record['round']:>{len(str(self.rounds))}}/{self.rounds}  loss {loss}  "
            f"{self.scored_on} Dice {record['dice']:.3f}  validation Dice {val}  "
            f"{record['seconds']:.1f} s" + (f"  epsilon {epsilon}" if (epsilon := spent(record)) else "")
        )

    def note(self, text: str) -> None:
        """Say it."""
        self._say(f"note: {text}", "yellow")

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, soft_wrap=True)


class LiveScreen(PlainScreen):
    """The same lines, and below them a bar with the round, the hospitals still training, and the time left."""

    def __init__(self, console: PlainConsole, progress: Progress) -> None:
        super().__init__(console)
        self._progress = progress
        self._bar = progress.add_task("starting", total=None, dice="")
        self._training: list[str] = []

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """Show the bar from `round` on: a resumed run does not start at 0."""
        super().started(config, partition, round)
        self._progress.update(self._bar, total=self.rounds, completed=max(0, round))

    def asked(self, round: int, task: str, hospitals: Sequence[str]) -> None:
        """Show which hospitals are working."""
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
        doing = {"train": "training", "unmask": "opening the sum"}.get(task, f"scoring {task}")
        left = ", ".join(self._training[:3]) + (" …" if len(self._training) > 3 else "")
        self._progress.update(self._bar, description=printable(f"round {round}/{self.rounds} {doing} {left}"))


class ComparisonScreen:
    """One line for every round of every run, for logs and pipes."""

    def __init__(self, console: PlainConsole) -> None:
        self.console = console

    def begun(self, run: str, rounds: int, done: int) -> None:
        """A run of this many rounds begins, or resumes after `done` of them."""

    def round(self, run: str, record: dict[str, Any], rounds: int) -> None:
        """A run has finished a round."""
        val = record["val_dice"]
        self.note(
            f"{run}  round {record['round']:>{len(str(rounds))}}/{rounds}  held-out Dice {record['dice']:.3f}  "
            f"validation Dice {'-' if val is None else f'{val:.3f}'}  {record['seconds']:.1f} s"
        )

    def note(self, text: str) -> None:
        """Something that the user should know."""
        self.console.print(text, soft_wrap=True)


class LiveComparisonScreen(ComparisonScreen):
    """A bar for each run."""

    def __init__(self, console: PlainConsole, progress: Progress) -> None:
        super().__init__(console)
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def begun(self, run: str, rounds: int, done: int) -> None:
        """Show its bar."""
        self._bars[run] = self._progress.add_task(printable(run), total=rounds, completed=max(0, done), dice="")

    def round(self, run: str, record: dict[str, Any], rounds: int) -> None:
        """Move its bar."""
        self._progress.update(self._bars[run], completed=record["round"], dice=f"Dice {record['dice']:.3f}")


class SilentComparisonScreen(ComparisonScreen):
    """Nothing."""

    def note(self, text: str) -> None:
        """Keep quiet."""


@contextmanager
def screen(console: PlainConsole, quiet: bool) -> Iterator[Watcher]:
    """The watcher that fits `console`: silent, a live display on a terminal, plain lines elsewhere."""
    if quiet:
        yield Watcher()
    elif not console.is_terminal:
        yield PlainScreen(console)
    else:
        with _progress(console) as progress:
            yield LiveScreen(console, progress)


@contextmanager
def comparison_screen(console: PlainConsole, quiet: bool) -> Iterator[ComparisonScreen]:
    """The display of a comparison's runs on `console`: nothing, bars on a terminal, lines elsewhere."""
    if quiet:
        yield SilentComparisonScreen(console)
    elif not console.is_terminal:
        yield ComparisonScreen(console)
    else:
        with _progress(console) as progress:
            yield LiveComparisonScreen(console, progress)


def _progress(console: PlainConsole) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[dice]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
