"""Scores the models on the held-out set, which no hospital has ever seen."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedpolyp import metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.divergence import diverged
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.training import Evaluation, Images, shared_trainer


@dataclass
class HeldOut(Observer):
    """The mean over the held-out images is the round's Dice, IoU and loss; over the models, if there are several.

    Dice and IoU are over the images with a polyp; predictions in the others are recorded beside them. Nothing happens
    if the coordinator has no images.
    """

    newest: dict[str, Evaluation] = field(default_factory=dict)  # of the last model that was scored, by mark
    round: int = -1  # which `newest` is of

    @cached_property
    def images(self) -> tuple[Images, Images]:
        """The held-out images (N, S, S, 3) and masks (N, S, S)."""
        store = self.experiment.store
        assert store is not None
        return self.experiment.partition.heldout_of(store)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        if self.experiment.store is None:
            return
        self.newest = {mark: self.evaluate(arrays) for mark, arrays in round.checkpoint.models.items()}
        self.round = round.number
        means = [evaluation.means() for evaluation in self.newest.values()]
        scores = {name: float(np.mean([own[name] for own in means])) for name in means[0]}
        if not all(map(math.isfinite, scores.values())):
            what = f"round {round.number}: the held-out loss of the model is not finite"
            raise diverged(what, self.experiment.config)
        round.record.scores = scores
        without = [metrics.without_polyp(evaluation.counts) for evaluation in self.newest.values()]
        round.record.without_polyp = {name: float(np.mean([own[name] for own in without])) for name in without[0]}

    def evaluate(self, arrays: Arrays) -> Evaluation:
        """The scores of the model with weights `arrays`."""
        return shared_trainer(self.experiment.config).evaluate(arrays, *self.images)

    def evaluation(self, checkpoint: Checkpoint, mark: str) -> Evaluation:
        """The scores of a checkpoint's model; it is evaluated only if it is not the newest."""
        if checkpoint.round == self.round:
            return self.newest[mark]
        return self.evaluate(checkpoint.models[mark])
