"""A hospital's round with privacy on: one gradient, clipped unit by unit, with noise."""

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from fedpolyp.algorithms.base import MODEL, trainable
from fedpolyp.config import Config, rate_of
from fedpolyp.errors import Refusal, UsageError
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Train
from fedpolyp.exchange.transforms import Changes, chain, inverts_masks
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import Noise
from fedpolyp.privacy.fixed_point import SCALE
from fedpolyp.privacy.gradients import as_units
from fedpolyp.privacy.keeper import Keeper, order_of
from fedpolyp.privacy.ledger import DrawnBefore
from fedpolyp.training import Images, Trainer

# Of a share of noise, in words of a secure sum. From two on, the sum of rounded shares cannot be told from a rounded
# sum: a Gaussian of this size, taken at whole numbers only, differs by a part in 10^34.
_LEAST_WORDS = 4.0


def train_privately(request: Train, weights: Arrays, hospital: Hospital, trainer: Trainer) -> Answer:
    """The noisy mean gradient of the hospital's units at `weights`, in units of the clip, downhill.

    With drawn units the sum is divided by the expected number, which is public. The number that was drawn stays.

    Nothing else leaves the hospital: no loss, no exact number of images, no optimizer state. The learning-rate schedule
    scales it; the server's optimizer decides the length of a step.

    Raises:
        Refusal: it would exceed the hospital's limit, or asks for something that no experiment does.
        FedpolypError: the hospital's ledger is damaged.
    """
    config = hospital.config
    privacy = config.privacy
    keeper = hospital.keeper or Keeper.simulated(config.seed, hospital.name, hospital.state)
    rows = hospital.units(privacy.unit)
    units = len(rows) if keeper.units is None else keeper.units
    if privacy.delta * units >= 1:
        raise Refusal(f"delta must be below one over the {units} units of this hospital; got {privacy.delta:g}")
    noise = _noise(hospital, units)
    part, expected = request.learning_rate / rate_of(config), privacy.drawn or units
    _refuse_impossible(request.round, part, noise.sigma / (math.sqrt(privacy.sharers) * expected), config)
    images, masks = hospital.images("train")
    if inverts_masks(config, hospital.name):
        masks = 1 - np.asarray(masks)
    order = [*order_of(_said(request, hospital, units), weights)]
    if privacy.drawn is not None:
        order.append(_digest_of(images, masks, rows))

    def noisy_sum() -> Arrays:
        drawn = rows
        if privacy.drawn is not None:
            # By the declared number, so that the probability does not tell the true one.
            drawn = [rows[unit] for unit in keeper.drawn(len(rows), noise.rate, order)]
        total = trainer.clipped_sum(weights, as_units(images, masks, drawn), privacy.clip)
        about = request.run, request.round, privacy.sharers
        return keeper.noisy(total, privacy.clip, noise, order, *about, unit=privacy.unit)

    while True:
        try:
            noisy = noisy_sum()
            break
        except DrawnBefore:  # for a sum with other bits: on another processor, or by another version of TensorFlow
            order.append(b"drawn again")
    change = {
        name: (noisy[name] * (-part / (privacy.clip * expected))).astype(array.dtype) if name in noisy else 0 * array
        for name, array in trainable(weights).items()
    }
    changes: Changes = {MODEL: change}
    for transform in chain(config, hospital.name):
        changes = transform(changes, request.round)
    return Answer({"units": units, "epsilon": keeper.spent(privacy.delta)}, changes)


def _refuse_impossible(round: int, part: float, noise: float, config: Config) -> None:
    """Refuse what no coordinator of this program asks for, and what would weaken the guarantee.

    In a secure sum each hospital's numbers are rounded before they are added up. If a share of `noise` (on the mean, in
    units of the clip, before it is multiplied by `part`) were smaller than this rounding, it would disappear instead of
    adding up. If `part` were large, whether numbers fit into the sum would tell something about a single hospital.

    Raises:
        Refusal: it is such a request.
    """
    rounds = config.federation.rounds
    if not 1 <= round <= rounds:
        raise Refusal(f"the noise is computed for {rounds} rounds; the request is for round {round}")
    if part > 1:
        raise Refusal("the learning rate of a round is at most that of the experiment; the request has a larger one")
    if config.privacy.mode == "joint" and 0 < part * noise * SCALE < _LEAST_WORDS:
        raise Refusal("the learning rate is too small: the rounding of a secure sum would be larger than the noise")


def _noise(hospital: Hospital, units: int) -> Noise:
    """The noise of a step, and the probability with which it has each unit.

    Raises:
        Refusal: there are fewer units than a batch should have, or the noise cannot be computed here.
    """
    try:
        return hospital.config.privacy.noise(hospital.config.federation.rounds, units)
    except UsageError as error:
        raise Refusal(str(error)) from None


def _digest_of(images: Images, masks: Images, rows: Sequence[Sequence[int]]) -> bytes:
    """Identifies the units of a hospital, so that units are drawn anew when an image is added or changed."""
    digest = hashlib.sha256(json.dumps([images.shape, rows]).encode())
    for array in (images, masks):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


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
            *config.of_a_step,
            config.privacy.model_dump(mode="json", exclude={"score_epsilon"}),  # a score changes no step
            config.federation.rounds,
        ],
        sort_keys=True,
    )
