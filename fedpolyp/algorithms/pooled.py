"""Pooled training: one model on all hospitals' images in one place, the reference for what federation costs."""

from collections.abc import Sequence

import numpy as np

from fedpolyp.algorithms.base import Algorithm

POOLED = "pooled"  # the party that trains instead of the hospitals


class Pooled(Algorithm):
    """Each round is a pass (for each local epoch) over all images; the optimizer continues from round to round."""

    federated = False
    whole = True

    def stages(self, hospitals: Sequence[str], draws: np.random.Generator) -> Sequence[Sequence[str]]:
        """See `Algorithm`."""
        return [[POOLED]]
