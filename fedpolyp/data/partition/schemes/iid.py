"""`iid`: hospitals differ by chance alone."""

import numpy as np

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, deal_in_order


class Iid(Scheme):
    """Shuffled, in equal shares."""

    def deal(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return deal_in_order(rng.permutation(len(groups)), groups, hospitals)
