"""`labels`: images assigned as by `iid`, but some hospitals annotate theirs badly."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from fedpolyp.data.annotation import Annotation
from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order
from fedpolyp.section import Section


class Labels(Scheme):
    """Hospitals that differ only in the masks that they train on; scores always use the true masks."""

    class Settings(Section):
        """Of `[hospitals]`."""

        poor: float = Field(0.4, ge=0, le=1, description="labels: fraction of the hospitals that annotate badly")
        dilation: float = Field(
            0.03, ge=-0.25, le=0.25, description="labels: how much they add around a lesion, as a fraction of the side"
        )
        shift: float = Field(
            0.03, ge=0, le=0.5, description="labels: how far their masks are displaced, as a fraction of the side"
        )
        missing: float = Field(0.1, ge=0, le=1, description="labels: fraction of the lesions that they overlook")

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return assign_in_order(rng.permutation(len(groups)), groups, hospitals)

    def annotations(self, hospitals: int, rng: np.random.Generator) -> Sequence[Annotation | None]:
        """See `Scheme`."""
        of = self.settings
        poor = set(rng.permutation(hospitals)[: round(of.poor * hospitals)].tolist())
        seeds = rng.integers(0, 2**32, hospitals).tolist()
        return [
            Annotation(of.dilation, of.shift, of.missing, seeds[k]) if k in poor else None for k in range(hospitals)
        ]
