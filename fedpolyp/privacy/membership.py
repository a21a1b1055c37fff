"""Was an image among those that a model was trained on? Judged by the model's loss on it.

S. Yeom et al., Privacy Risk in Machine Learning, CSF 2018 (the loss itself); L. Watson et al., On the Importance of
Difficulty Calibration in Membership Inference Attacks, ICLR 2022 (less what another model finds hard anyway).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE_ALARMS = 0.05  # share of other images that may be taken for members
_DRAWS = 1_000
_LEVEL = 0.95

Signals = NDArray[np.float64]


@dataclass(frozen=True)
class Success:
    """How well a signal that is higher for members distinguishes them from other images."""

    members: int
    others: int
    auc: float  # the chance that a member's signal is above another image's: 0.5 is a guess, 1 is certain
    low: float  # of an interval of 95 % over images
    high: float
    found: float  # share of the members that are found if 5 % of the others may be taken for members


def success(members: Signals, others: Signals, random_seed: int = 0) -> Success:
    """How well these signals distinguish members (M,) from other images (N,).

    The interval is a percentile bootstrap over members and over others.

    Raises:
        ValueError: there are none of one kind, or a signal is not a finite number.
    """
    if not (len(members) and len(others)):
        raise ValueError(f"there must be members and others; got {len(members)} and {len(others)}")
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("a signal is not a finite number")
    random = np.random.default_rng(random_seed)
    drawn = [area(random.choice(members, len(members)), random.choice(others, len(others))) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Success(len(members), len(others), area(members, others), float(low), float(high), found_at(members, others))


def area(members: Signals, others: Signals) -> float:
    """The area under the ROC curve, in [0, 1]: Mann and Whitney's U over the number of pairs; a tie is half a win."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, "left")
    up_to = np.searchsorted(ordered, members, "right")
    return float((below + up_to).sum() / (2 * len(members) * len(others)))


def found_at(members: Signals, others: Signals, false_alarms: float = FALSE_ALARMS) -> float:
    """The share of members whose signal is above that of all but `false_alarms` of the others."""
    return float((members > np.quantile(others, 1 - false_alarms, method="higher")).mean())
