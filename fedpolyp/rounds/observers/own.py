"""The user's own observers, any of which may end the run."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedpolyp.checkpoints import Checkpoint
from fedpolyp.rounds.observers.observer import Observer, Round


@dataclass
class Own(Observer):
    """Calls the user's observers. If one ends the run, the scores that only a last round has are made after all."""

    observers: Sequence[Observer]
    at_the_end: Sequence[Observer]  # called already, when the round was not yet the last

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        for one in self.observers:
            one.ask(round)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        known = round.last
        for one in self.observers:
            one.see(round)
        if round.last and not known:
            for one in self.at_the_end:
                one.see(round)

    def end(self, last: Checkpoint) -> None:
        """See `Observer`."""
        for one in self.observers:
            one.end(last)
