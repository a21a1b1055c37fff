"""`iid`: hospitals differ by chance alone."""

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import deal_in_order


def iid(groups: Groups, hospitals: int, skew: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shuffled: hospitals differ by chance alone. `skew` has no part in it."""
    return deal_in_order(rng.permutation(len(groups)), groups, hospitals)
