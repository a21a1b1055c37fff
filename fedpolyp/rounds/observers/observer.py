"""The base class of observers, and the round that they receive."""

from dataclasses import dataclass

from fedpolyp.checkpoints import Checkpoint
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.runs import RoundRecord


@dataclass
class Round:
    """A round after its training: the new state, and its record, which observers complete."""

    checkpoint: Checkpoint
    record: RoundRecord
    planned_last: bool  # whether the config has no round after it

    @property
    def number(self) -> int:
        """The round's number; 0 is the initial weights."""
        return self.record.round

    @property
    def last(self) -> bool:
        """Whether the run ends with it: an observer ends a run with a reason, in `record.stopped`."""
        return self.planned_last or bool(self.record.stopped)


@dataclass
class Observer:
    """Is called after each round; it may write files and ask hospitals for scores. Override the methods you need.

    Observers are called in their order: first `ask` of all, then `see` of all.
    """

    experiment: Experiment

    def ask(self, round: Round) -> None:
        """Send requests that take hospitals long; other observers work meanwhile."""

    def see(self, round: Round) -> None:
        """Process the round, and write files."""

    def end(self, last: Checkpoint) -> None:
        """The run's last round is complete, with all of its files."""
