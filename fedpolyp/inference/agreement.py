"""The agreement of several models about one image."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray


def agreement(masks: Sequence[NDArray[Any]]) -> float:
    """The mean Dice between each two of `masks` (H, W), in [0, 1]; two empty masks agree."""
    return float(np.mean([_dice(one, other) for one, other in combinations(masks, 2)]))


def disagreement(fields: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Where models differ, (H, W): the standard deviation of their probabilities, scaled so that 0.5, the largest, is
    255.
    """
    return np.rint(np.std(np.stack(fields), axis=0) * 510).astype(np.uint8)


def _dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    both = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(np.logical_and(one, other))) / both if both else 1.0
