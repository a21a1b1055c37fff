"""`quantity`: hospitals differ in how many images they have, and in nothing else but by chance."""

import numpy as np
from pydantic import Field

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_by_shares, redrawn
from fedpolyp.section import Section


class Quantity(Scheme):
    """Shuffled, in shares that a symmetric Dirichlet distribution gives."""

    class Settings(Section):
        """Of `[hospitals]`."""

        alpha: float = Field(
            1.0,
            ge=0.01,
            le=1e6,
            description="quantity: the Dirichlet's concentration; smaller makes sizes more unequal",
        )

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""

        def draw() -> Rows:
            shares = rng.dirichlet(np.full(hospitals, self.settings.alpha))
            return assign_by_shares(rng.permutation(len(groups)), groups, shares.tolist())[1]

        advice = "give a larger --alpha, fewer --hospitals or a smaller --min-images"
        return redrawn(draw, groups, hospitals, self.min_images, advice)
