"""Stops a run whose rounds do not get better on validation."""

from dataclasses import dataclass

from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.observers.observer import Observer, Round


@dataclass
class Patience(Observer):
    """Ends the run after `federation.patience` rounds in a row of which none was the best on validation.

    The reason is in the record of the last round. Where there are several models, each round that was the best for one
    of them counts. It follows `Validation`, which tells the best rounds.
    """

    experiment: Experiment

    def see(self, round: Round) -> None:
        """See `Observer`."""
        patience = self.experiment.config.federation.patience
        best = max(one.round for one in round.checkpoint.best.values())
        if patience is not None and round.number - best >= patience:
            round.record.stopped = f"no round after {best} was better on validation, for {patience} rounds"
            round.last = True
