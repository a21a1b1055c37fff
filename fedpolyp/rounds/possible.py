"""What a training can have made of the arrays that it was sent, and what none can.

Only what no images can produce is refused; `fedpolyp.rounds.judging` finds updates that are unlike the others.

**What stays.** With `model.frozen_statistics` the moving statistics of the encoder are what they were, bit for bit, and
with `model.encoder_rate` 0 so are its other weights. After the round `training.fix_statistics_after` all moving
statistics are, unless hospitals train from arrays of their own, as with FedBN: then their own stay as they were.

**Adam's moments** (of Adam, AdamW, and what Muon leaves to Adam). From the moments m, v that were sent, n steps with
gradients g_1 … g_n make, for each weight by itself, with b1 = 0.9 and b2 = 0.999,

    m' = b1^n m + dm,  dm = (1 - b1) Σ b1^(n-i) g_i
    v' = b2^n v + dv,  dv = (1 - b2) Σ b2^(n-i) g_i²

So dv is not negative, and by Cauchy and Schwarz, with b1^(n-i) = (b1² / b2)^((n-i)/2) · b2^((n-i)/2),

    dm² ≤ (1 - b1)² / (1 - b2) · Σ (b1² / b2)^k · dv,  k from 0 to n - 1

with equality for g_i proportional to (b1 / b2)^(n-i). So some gradients produce any moments that satisfy both. The sum
is 5.3 at most, so |dm| ≤ 7.3 √dv. A hospital computes in float32. Each step rounds v by a few units of 2^-24, which
are weighed as v' is: n steps by less than n · 1e-6 of v'. The rounding of m is weighed down by b1^(n-i), and so is less
than 1e-4 of √v'. Squares below float32's smallest number are lost: these gradients are below 1e-17. What travels is a
difference, rounded to 2^-24 of itself, or to 2^-9 in bfloat16.

**A momentum without a second moment** (SGD's, and Muon's of kernels) can be anything: there are gradients for it, and
the steps between the first and the last are not known. Only `max_update_norm` and the largest number bound it.
"""

import numpy as np
from numpy.typing import NDArray

from fedpolyp.algorithms.finding import find
from fedpolyp.config import Config
from fedpolyp.model.arrays import Arrays, blocks, is_statistic
from fedpolyp.model.registry import ENCODER

ADAM = (0.9, 0.999)
_ROUNDED = 1e-6  # of a second moment, in each step
_SLACK = 1e-3  # of a first moment
_LOST, _LOST_SQUARE = 1e-16, 1e-34  # what float32 may lose for being too small


def fault_of_weights(changes: Arrays, config: Config, round: int) -> str:
    """What in the `changes` of a model's arrays no training of `config` in `round` can have made, in words; '' for
    nothing.
    """
    for name, change in changes.items():
        if change.any() and (setting := _keeps(config, name, round)):
            return f"array {name} has changed, and {setting} keeps it as it is"
    return ""


def fault_of_moments(changes: Arrays, sent: Arrays, steps: int, bfloat16: bool = False) -> str:
    """What in the `changes` of an optimizer's moments no `steps` steps from `sent` can have made, in words; '' for
    nothing.

    `bfloat16` says whether the changes were sent in it.
    """
    lost = 2.0**-8 if bfloat16 else 2.0**-23
    for name in sent:
        if not name.startswith("v/"):
            continue
        path = name.removeprefix("v/")
        own = [changes[f"m/{path}"], changes[name], sent[f"m/{path}"], sent[name]]
        for first, second, first_sent, second_sent in blocks(*own):
            if fault := _fault_of_adam(first, second, first_sent, second_sent, steps, lost):
                return f"its {fault} moments of {path} cannot result from gradients and the moments that it was sent"
    return ""


def _keeps(config: Config, name: str, round: int) -> str:
    """The setting by which a training of `round` leaves the array `name` as it was; '' for none."""
    model, training, statistic = config.model, config.training, is_statistic(name)
    if statistic and training.fixes_statistics(round) and not find(config.algorithm.name).has_own_arrays():
        return f"training.fix_statistics_after {training.fix_statistics_after}"
    if model.encoder == "plain" or not name.startswith(ENCODER):
        return ""
    if statistic:
        return "model.frozen_statistics" if model.frozen_statistics else ""
    return "model.encoder_rate 0" if model.encoder_rate == 0 else ""


def _fault_of_adam(
    first_change: NDArray[np.float64],
    second_change: NDArray[np.float64],
    first_sent: NDArray[np.float64],
    second_sent: NDArray[np.float64],
    steps: int,
    lost: float,
) -> str:
    b1, b2 = ADAM
    first, second = first_sent + first_change, second_sent + second_change
    gained = second - b2**steps * second_sent
    rounded = min(1.0, steps * _ROUNDED) * np.maximum(second, b2**steps * second_sent) + _LOST_SQUARE
    rounded += lost * np.abs(second_change)
    if (gained < -rounded).any():
        return "second"
    ratio = b1**2 / b2
    bound = (1 - b1) ** 2 / (1 - b2) * (1 - ratio**steps) / (1 - ratio)
    moved = np.abs(first - b1**steps * first_sent)
    allowed = np.sqrt(bound * (np.maximum(gained, 0) + rounded)) * (1 + _SLACK)
    allowed += 1e-4 * np.sqrt(second) + _SLACK * b1**steps * np.abs(first_sent) + _LOST
    allowed += lost * np.abs(first_change)
    return "first" if (moved > allowed).any() else ""
