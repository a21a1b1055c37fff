"""Draws the hospitals of a round."""

import math
from fractions import Fraction

import numpy as np

from fedpolyp.config import Config

_SAMPLING = 71  # its own stream of random numbers


def sample(everyone: list[str], config: Config, number: int) -> list[str]:
    """The hospitals of round `number`, by name: `federation.fraction` of them, drawn without replacement."""
    size = config.federation.in_a_round(len(everyone))
    rng = np.random.default_rng([config.seed, _SAMPLING, number])
    return [everyone[position] for position in sorted(rng.choice(len(everyone), size, replace=False))]


def needed(config: Config, asked: int) -> int:
    """How many of so many hospitals of a federation must send a usable reply for a valid round."""
    # As it was typed: 0.28 times 25 is 7, but the float nearest to 0.28 is a little more.
    replies = math.ceil(Fraction(str(config.federation.min_replies)) * asked)
    return max(1, replies, config.privacy.secure_least if config.privacy.secure_sums else 0)
