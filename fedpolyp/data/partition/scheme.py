"""What a scheme is, and what schemes share."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.groups import Groups, cut

# One each for training, validation and test.
GROUPS_PER_HOSPITAL = 3

Scheme = Callable[[Groups, int, float, np.random.Generator], NDArray[np.intp]]
"""(groups, number of hospitals, skew in [0,1], rng) -> hospital of each group, (G,) in 0..hospitals-1."""


def deal_in_order(order: NDArray[np.intp], groups: Groups, hospitals: int) -> NDArray[np.intp]:
    """The hospital of each group when equal shares of `order` go to hospital 0, 1, 2 and so on."""
    runs = cut(order, groups, [1 / hospitals] * hospitals, [GROUPS_PER_HOSPITAL] * hospitals)
    hospital = np.empty(len(groups), dtype=np.intp)
    for number, rows in enumerate(runs):
        hospital[rows] = number
    return hospital
