"""Saves a round: first its record, then the checkpoint that makes it complete."""

from dataclasses import dataclass

from fedpolyp import checkpoints
from fedpolyp.rounds.observers.observer import Observer, Round


@dataclass
class Record(Observer):
    """Appends to rounds.jsonl."""

    def see(self, round: Round) -> None:
        """See `Observer`."""
        self.experiment.run.append_round(round.record.to_plain())


@dataclass
class Checkpoints(Observer):
    """Saves the state that the next round needs, and the models best on validation."""

    def see(self, round: Round) -> None:
        """See `Observer`."""
        keep = self.experiment.config.runtime.keep_checkpoints
        checkpoints.save(self.experiment.run.checkpoints, round.checkpoint, keep)


@dataclass
class Told(Observer):
    """Tells the watcher that a round is complete."""

    def see(self, round: Round) -> None:
        """See `Observer`."""
        self.experiment.watcher.finished_round(round.record.to_plain())
