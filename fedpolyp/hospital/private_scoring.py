"""A hospital's score with privacy on: one number for its test images, the mean Dice with noise."""

import json
import math
from collections.abc import Callable

import numpy as np

from fedpolyp import metrics
from fedpolyp.algorithms.base import MODEL
from fedpolyp.errors import Refusal
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Evaluate
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import SCORE_SPAN
from fedpolyp.privacy.keeper import Keeper, order_of
from fedpolyp.training import shared_trainer

SCORES_STAY = "with privacy on, scores of a hospital's images do not leave it"
_SCORE = "score"  # in the ledger


def score_privately(request: Evaluate, received: Callable[[str, Arrays], Arrays], hospital: Hospital) -> Answer:
    """The noisy mean Dice of the model that was sent, over the units of the hospital's test images.

    Each unit adds the mean Dice of its images with a polyp, less one half. So one unit more changes the sum by at most
    one half, however many images it has. The noise is the hospital's own, also where hospitals share that of a secure
    sum. The sum is divided by the number of units that the hospital declares, and one half is added. Neither the true
    number leaves nor the score of an image.

    Raises:
        Refusal: the run asks for no score, or the request for another one; the hospital declares no number of test
            units, or this would exceed its limit.
        FedpolypError: the hospital's ledger is damaged.
    """
    config, privacy = hospital.config, hospital.config.privacy
    if not privacy.scores:
        raise Refusal(SCORES_STAY)
    if request.score_set != "test" or request.own or request.distances:
        raise Refusal(f"{SCORES_STAY}, but for the noisy mean Dice of its test images")
    images, masks = hospital.images("test")
    units = [
        rows
        for own in hospital.units(privacy.unit, "test")
        if (rows := [row for row in own if masks[row].any()])  # Dice needs a polyp
    ]
    keeper = hospital.keeper or Keeper.simulated(config.seed, hospital.name, hospital.state)
    declared = _declared(keeper, len(units))
    if privacy.delta * declared >= 1:
        raise Refusal(f"delta must be below one over the {declared} test units of this hospital; got {privacy.delta:g}")
    trainer = shared_trainer(config)
    weights = received(MODEL, trainer.start.model)

    def dice(row: int) -> float:
        # By itself: in a batch, rounding could make the score of an image depend on the others.
        counts = trainer.evaluate(weights, images[[row]], masks[[row]]).counts
        return float(metrics.dice(counts)[0])

    total = {"dice": np.array([math.fsum(math.fsum(map(dice, rows)) / len(rows) - SCORE_SPAN for rows in units)])}
    noise, order = privacy.score_noise(), order_of(_said(request, hospital, declared), weights)
    noisy = keeper.noisy(total, SCORE_SPAN, noise, order, request.run, request.round, what=_SCORE, unit=privacy.unit)
    told = {
        "noisy_dice": SCORE_SPAN + float(noisy["dice"][0]) / declared,
        "deviation": SCORE_SPAN * noise.sigma / declared,
    }
    return Answer(told | {"epsilon": keeper.spent(privacy.delta)})


def _declared(keeper: Keeper, units: int) -> int:
    """The number by which the hospital divides: at a site what it declares, never the true number `units`.

    Raises:
        Refusal: the site declares none; in a simulation, where the true number is known, it is 0.
    """
    if keeper.units is not None:
        if keeper.test_units is None:
            raise Refusal("this site has no declared_test_units in its site.toml, so it gives no noisy score")
        return keeper.test_units
    if not units:
        raise Refusal("none of this hospital's test images has a polyp, so it has no score")
    return units


def _said(request: Evaluate, hospital: Hospital, declared: int) -> str:
    """The part of a request that decides the answer, without anything that differs when it is repeated."""
    config = hospital.config
    return json.dumps(
        [
            _SCORE,
            request.run,
            request.hospital,
            request.round,
            declared,
            config.seed,
            *config.of_a_step,
            config.privacy.model_dump(mode="json"),
            config.federation.rounds,
        ],
        sort_keys=True,
    )
