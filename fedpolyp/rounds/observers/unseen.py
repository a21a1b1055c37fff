"""Scores the models on sources that no hospital has, as an estimate for hospitals outside the federation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedpolyp import metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.runs import ScoredSet
from fedpolyp.training import Evaluation, Images, shared_trainer


@dataclass
class Unseen(Observer):
    """Every `data.unseen_every` rounds and at the end, the mean Dice of each unseen source goes into the record.

    The mean is over the source's images, and over the models where there are more.
    """

    def see(self, round: Round) -> None:
        """See `Observer`."""
        if round.last or round.number % self.experiment.config.data.unseen_every == 0:
            for source in self.experiment.partition.unseen:
                scored = [self._evaluation(source, arrays)[0] for arrays in round.checkpoint.models.values()]
                round.record.unseen[source] = float(np.mean([one.means()["dice"] for one in scored]))

    def scores(self, model: Checkpoint, mark: str) -> Iterator[tuple[str, ScoredSet, Images]]:
        """For each unseen source: its name, and the scores and predictions of one of a checkpoint's models."""
        for source, ids in self.experiment.partition.unseen.items():
            seen, masks = self._evaluation(source, model.models[mark])
            yield source, (f"unseen:{source}", ids, seen.counts, metrics.hd95(seen.predicted, masks)), seen.predicted

    def _evaluation(self, source: str, arrays: Arrays) -> tuple[Evaluation, Images]:
        """The scores of the model with weights `arrays`, and the true masks."""
        store = self.experiment.store
        assert store is not None  # the coordinator has the images that it partitioned
        positions = store.positions(self.experiment.partition.unseen[source])
        images, masks = store.images[positions], store.masks[positions]
        return shared_trainer(self.experiment.config).evaluate(arrays, images, masks), masks
