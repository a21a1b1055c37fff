"""`iid`: hospitals differ only by chance."""

import numpy as np

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order


class Iid(Scheme):
    """Shuffled, in equal shares."""

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return assign_in_order(rng.permutation(len(groups)), groups, hospitals)
