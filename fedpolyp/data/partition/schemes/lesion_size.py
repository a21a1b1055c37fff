"""`lesion-size`: some hospitals see small lesions, others large ones."""

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import deal_in_order


def lesion_size(groups: Groups, hospitals: int, skew: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """From small lesions to large: sorted by skew · rank/n + (1 - skew) · u, u uniform in [0,1); skew 0 shuffles.

    At skew 1 no lesion (mean of its group) at a hospital is larger than any at the next.
    """
    n = len(groups)
    rank = np.argsort(np.argsort(groups.lesion_fraction, kind="stable"))
    return deal_in_order(np.argsort(skew * rank / n + (1 - skew) * rng.random(n), kind="stable"), groups, hospitals)
