"""What a hospital does with a request: it trains what it was sent, or scores it, on its own images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedpolyp import metrics
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Groups, Outcome, Start, Trained, minus
from fedpolyp.algorithms.finding import make
from fedpolyp.config import rate_of
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Evaluate, Train
from fedpolyp.exchange.transforms import chain, inverts_masks
from fedpolyp.hospital import private_state
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.masking import accepted, mask
from fedpolyp.hospital.private_scoring import score_privately
from fedpolyp.hospital.private_training import train_privately
from fedpolyp.model.arrays import Arrays
from fedpolyp.training import Trainer, shared_trainer

# Returns a group of arrays that came with the request, which must have these names, shapes and types.
Received = Callable[[str, Arrays], Arrays]


def train(request: Train, received: Received, hospital: Hospital) -> Answer:
    """Train on the hospital's training images; reply with an update, and keep the private state.

    Raises:
        Refusal: with privacy on, this would exceed the hospital's limit; the secure sum would not hide the update.
        FedpolypError: the hospital's private state is gone or damaged, or the algorithm would never get it back.
    """
    if hospital.config.privacy.secure_sums:
        accepted(request, hospital)
    if hospital.config.privacy.on:
        trainer = shared_trainer(hospital.config)
        weights = received(MODEL, trainer.start.model)
        answer = train_privately(request, weights, hospital, trainer)
        return _masked(request, answer, {MODEL: weights}, {MODEL: weights}, hospital)
    visit = _Visit(request, received, hospital, make(hospital.config), shared_trainer(hospital.config))
    outcome = visit.algorithm.train(visit)
    if outcome.kept and not visit.algorithm.keeps_state:
        raise FedpolypError(
            f"the algorithm {hospital.config.algorithm.name} keeps {', '.join(sorted(outcome.kept))} at the hospital, "
            "but would never get it back: its class must say keeps_state = True"
        )
    kept = {**outcome.kept, **visit.optimizer_to_keep(outcome.trained)}
    if kept:
        private_state.write(hospital.state, request.round, kept, request.keep_from, (request.keep_best,))
    answer = Answer(
        {"images": outcome.trained.images, "train_loss": outcome.trained.loss, "steps": outcome.trained.steps},
        _update(visit, outcome, request.round),
    )
    return _masked(request, answer, visit.received, visit.algorithm.update(visit.start), hospital)


def _masked(request: Train, answer: Answer, sent: Groups, like: Groups, hospital: Hospital) -> Answer:
    if not hospital.config.privacy.secure_sums:
        return answer
    return mask(request, answer, sent, like, hospital)


def evaluate(request: Evaluate, received: Received, hospital: Hospital) -> Answer:
    """Score the model that was sent on one of the hospital's own sets: each image's counts, losses and distances.

    With privacy on, at most one noisy number leaves, see `score_privately`.

    Raises:
        Refusal: with privacy on, other scores would reveal something about these images, or the limit is reached.
        FedpolypError: the hospital's private state is gone or damaged.
    """
    if hospital.config.privacy.on:
        return score_privately(request, received, hospital)
    algorithm, trainer = make(hospital.config), shared_trainer(hospital.config)
    images, masks = hospital.images(request.score_set)
    kept = private_state.read(hospital.state, request.counted) if algorithm.keeps_state else {}
    model = algorithm.own_model(received(MODEL, trainer.start.model), kept)
    if request.own:
        model = _fine_tuned(model, request, hospital, algorithm, trainer)
    evaluation = trainer.evaluate(model, images, masks)
    scores: Arrays = {"counts": evaluation.counts, "losses": evaluation.losses}
    if request.distances:
        scores["hd95"] = metrics.hd95(evaluation.predicted, masks)
    return Answer({}, {"scores": scores})


def _fine_tuned(model: Arrays, request: Evaluate, hospital: Hospital, algorithm: Algorithm, trainer: Trainer) -> Arrays:
    """The result of one more training of `model`, with a new optimizer.

    Raises:
        FedpolypError: it diverged.
    """
    trained = trainer.train(
        model,
        *hospital.images("train"),
        hospital=hospital.name,
        round=request.round + 1,
        learning_rate=rate_of(hospital.config) * algorithm.settings.own_rate,
        epochs=algorithm.settings.own_epochs,
    )
    finite = np.isfinite(trained.loss) and all(np.isfinite(array).all() for array in trained.arrays.values())
    if not finite:
        raise FedpolypError(f"the fine-tuning of {hospital.name} has diverged: give a smaller --own-rate")
    return trained.arrays


@dataclass(frozen=True)
class _Visit:
    """See `fedpolyp.algorithms.base.Visit`."""

    request: Train
    arrived: Received
    hospital: Hospital
    algorithm: Algorithm
    trainer: Trainer

    @cached_property
    def received(self) -> Groups:
        """What the server sent."""
        expected = self.algorithm.sent_like(self.start)
        return {group: self.arrived(group, like) for group, like in expected.items()}

    @cached_property
    def kept(self) -> Groups:
        """The hospital's private state; empty before its first training that counted."""
        if not (self.algorithm.keeps_state or self._keeps_optimizer):
            return {}
        return private_state.read(self.hospital.state, self.request.counted)

    @property
    def start(self) -> Start:
        """The names, shapes and types of the model and the optimizer."""
        return self.trainer.start

    def train(self, arrays: Arrays, corrections: Mapping[str, Arrays] | None = None) -> Trained:
        """Train on the hospital's images."""
        images, masks = self.hospital.images("train")
        if inverts_masks(self.hospital.config, self.hospital.name):
            masks = 1 - np.asarray(masks)
        before = self.kept if self._keeps_optimizer else self.received
        return self.trainer.train(
            arrays,
            images,
            masks,
            hospital=self.hospital.name,
            round=self.request.round,
            learning_rate=self.request.learning_rate,
            optimizer=before.get(OPTIMIZER),
            corrections=corrections,
        )

    def optimizer_to_keep(self, trained: Trained) -> Groups:
        """The optimizer's state, if it stays at the hospital."""
        return {OPTIMIZER: trained.optimizer} if self._keeps_optimizer else {}

    @property
    def _keeps_optimizer(self) -> bool:
        return self.algorithm.federated and self.hospital.config.training.optimizer_state == "keep"


def _update(visit: _Visit, outcome: Outcome, round: int) -> Mapping[str, Arrays]:
    """The differences from what was sent, after the chain of transforms."""
    values = dict(outcome.sent)
    if visit.algorithm.averages_optimizer:
        values.setdefault(OPTIMIZER, outcome.trained.optimizer)
    if visit.algorithm.whole:
        return values
    changes: Mapping[str, Arrays] = {g: minus(arrays, visit.received.get(g, {})) for g, arrays in values.items()}
    for transform in chain(visit.hospital.config, visit.hospital.name):
        changes = transform(changes, round)
    return changes
