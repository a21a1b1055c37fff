"""A scheme as docs/extending.md shows it."""

import numpy as np
from pydantic import Field

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order
from fedpolyp.section import Section


class ByGroup(Scheme):
    """Some hospitals have many groups of one image, others few large groups."""

    class Settings(Section):
        """Of `[hospitals]`."""

        jitter: float = Field(0.1, ge=0, description="by-group: how random the order is")

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        order = np.argsort(groups.size + self.settings.jitter * rng.standard_normal(len(groups)))
        return assign_in_order(order, groups, hospitals)
