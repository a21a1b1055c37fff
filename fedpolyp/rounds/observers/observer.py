"""An observer, and the round that it sees."""

from dataclasses import dataclass

from fedpolyp.checkpoints import Checkpoint
from fedpolyp.runs import RoundRecord


@dataclass
class Round:
    """A round after its training: the state it led to, and its record, which observers complete."""

    checkpoint: Checkpoint
    record: RoundRecord
    last: bool  # of the run; an observer may make it so

    @property
    def number(self) -> int:
        """The round's, from 0: the initial weights."""
        return self.record.round


class Observer:
    """Sees each round, and may write files and ask hospitals for scores; override what is of interest.

    Observers are called in their order: first `ask` of all, then `see` of all.
    """

    def ask(self, round: Round) -> None:
        """Have hospitals begin with what takes them long; others work meanwhile."""

    def see(self, round: Round) -> None:
        """Look at the round; write what is to be written."""

    def end(self, last: Checkpoint) -> None:
        """The run's last round is complete, with all that was written of it."""
