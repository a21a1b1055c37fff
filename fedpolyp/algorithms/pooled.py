"""Pooled training: one model on all hospitals' images in one place, which is what federation is measured against."""

from collections.abc import Sequence

import numpy as np

from fedpolyp.algorithms.base import Algorithm

POOLED = "pooled"  # who trains in the hospitals' place


class Pooled(Algorithm):
    """Each round is a pass (per local epoch) over everybody's images; the optimizer goes on from round to round."""

    federated = False
    whole = True

    def stages(self, hospitals: Sequence[str], draws: np.random.Generator) -> Sequence[Sequence[str]]:
        """See `Algorithm`."""
        return [[POOLED]]
