"""`lesion-size`: some hospitals see small lesions, others large ones."""

import numpy as np
from pydantic import Field

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_by_shares, assign_in_order, redrawn
from fedpolyp.section import Section


class LesionSize(Scheme):
    """From small lesions to large, as strictly as the skew says; or, with `alpha`, by Dirichlet over bins of sizes.

    The size of a group is the mean size of its lesions.
    """

    uses_skew = True

    class Settings(Section):
        """Of `[hospitals]`."""

        alpha: float | None = Field(
            None,
            ge=0.01,
            le=1e6,
            description="lesion-size: concentration of a Dirichlet over size bins, replaces --skew; unset: the skew",
        )
        bins: int = Field(4, ge=2, le=100, description="lesion-size: how many bins of sizes, for --alpha")

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        if self.settings.alpha is None:
            return self._sorted(groups, hospitals, rng)
        return self._binned(groups, hospitals, rng)

    def _sorted(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """By skew · rank/n + (1 - skew) · u, u uniform in [0,1): skew 0 shuffles.

        At skew 1 no lesion (mean of its group) at a hospital is larger than any at the next.
        """
        n = len(groups)
        rank = np.argsort(np.argsort(groups.lesion_fraction, kind="stable"))
        order = np.argsort(self.skew * rank / n + (1 - self.skew) * rng.random(n), kind="stable")
        return assign_in_order(order, groups, hospitals)

    def _binned(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """Each bin of about equally many groups is assigned in its own shares, as labels are in the literature."""
        by_size = np.array_split(np.argsort(groups.lesion_fraction, kind="stable"), self.settings.bins)

        def draw() -> Rows:
            hospital = np.empty(len(groups), dtype=np.intp)
            for rows in by_size:
                shares = rng.dirichlet(np.full(hospitals, self.settings.alpha))
                assigned, to = assign_by_shares(rng.permutation(rows), groups, shares.tolist())
                hospital[assigned] = to
            return hospital

        advice = "give a larger --alpha, more --bins, fewer --hospitals or a smaller --min-images"
        return redrawn(draw, groups, hospitals, self.min_images, advice)
