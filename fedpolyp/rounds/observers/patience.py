"""Stops a run whose rounds no longer improve on validation."""

from dataclasses import dataclass

from fedpolyp.rounds.observers.observer import Observer, Round


@dataclass
class Patience(Observer):
    """Ends the run after `federation.patience` rounds in a row without a new best validation score.

    The reason is in the record of the last round. With several models, a round counts as best if it is the best for one
    of them. It must follow `Validation`, which finds the best rounds.
    """

    def see(self, round: Round) -> None:
        """See `Observer`."""
        patience = self.experiment.config.federation.patience
        best = max(one.round for one in round.checkpoint.best.values())
        if patience is None or round.record.lost:  # a round without a result says nothing about training
            return
        lost = sum(bool(record.get("lost")) for record in self.experiment.run.rounds() if record["round"] > best)
        if round.number - best - lost >= patience:
            round.record.stopped = f"no round after {best} was better on validation, for {patience} rounds"
