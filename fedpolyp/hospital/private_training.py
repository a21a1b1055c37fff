"""A hospital's round with privacy on: one gradient, clipped unit by unit, with noise."""

import json

import numpy as np

from fedpolyp.algorithms.base import MODEL, trainable
from fedpolyp.config import rate_of
from fedpolyp.errors import Refusal
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Train
from fedpolyp.exchange.transforms import Changes, chain, inverts_masks
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.gradients import as_units
from fedpolyp.privacy.keeper import Keeper, order_of
from fedpolyp.training import Trainer


def train_privately(request: Train, weights: Arrays, hospital: Hospital, trainer: Trainer) -> Answer:
    """The noisy mean gradient of the hospital's units at `weights`, in units of the clip, downhill.

    Nothing else leaves the hospital: no loss, no exact number of images, no optimizer state. The learning-rate schedule
    scales it; the server's optimizer decides the length of a step.

    Raises:
        Refusal: it would exceed the hospital's limit.
        FedpolypError: the hospital's ledger is damaged.
    """
    config = hospital.config
    privacy, rounds = config.privacy, config.federation.rounds
    keeper = hospital.keeper or Keeper.simulated(config.seed, hospital.name, hospital.state)
    rows = hospital.units(privacy.unit)
    units = len(rows) if keeper.units is None else keeper.units
    if privacy.delta * units >= 1:
        raise Refusal(f"delta must be below one over the {units} units of this hospital; got {privacy.delta:g}")
    images, masks = hospital.images("train")
    if inverts_masks(config, hospital.name):
        masks = 1 - np.asarray(masks)
    total = trainer.clipped_sum(weights, as_units(images, masks, rows), privacy.clip)
    sigma = privacy.sigma(rounds)
    order = order_of(_said(request, hospital, units), weights)
    noisy = keeper.noisy(total, privacy.clip, sigma, order, request.run, request.round, privacy.sharers)
    part = request.learning_rate / rate_of(config)
    change = {
        name: (noisy[name] * (-part / (privacy.clip * units))).astype(array.dtype) if name in noisy else 0 * array
        for name, array in trainable(weights).items()
    }
    changes: Changes = {MODEL: change}
    for transform in chain(config, hospital.name):
        changes = transform(changes, request.round)
    return Answer({"units": units, "epsilon": keeper.spent(privacy.delta)}, changes)


def _said(request: Train, hospital: Hospital, units: int) -> str:
    """The part of a request that decides the answer, without anything that differs when it is repeated.

    The run's path, the number of processes, and which state may be removed do not count.
    """
    config = hospital.config
    return json.dumps(
        [
            request.run,
            request.hospital,
            request.round,
            request.learning_rate,
            units,
            config.seed,
            config.data.image_size,
            config.model.architecture.model_dump(mode="json"),
            config.training.model_dump(mode="json"),
            config.privacy.model_dump(mode="json"),
            config.federation.rounds,
        ],
        sort_keys=True,
    )
