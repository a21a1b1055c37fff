"""The agreement of several models about one image."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics


def agreement(masks: Sequence[NDArray[Any]]) -> float:
    """The mean Dice between each two of `masks` (H, W), in [0, 1]; two empty masks agree."""
    counts = [metrics.count_pixels(one[None], other[None]) for one, other in combinations(masks, 2)]
    return float(metrics.dice(np.concatenate(counts)).mean())


def disagreement(fields: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Where models differ, (H, W): the standard deviation of their probabilities, scaled so that 0.5, the largest, is
    255.
    """
    return np.rint(np.std(np.stack(fields), axis=0) * 510).astype(np.uint8)
