"""Cyclic weight transfer: K. Chang et al., Distributed deep learning networks among institutions, JAMIA 2018."""

from collections.abc import Sequence

import numpy as np

from fedpolyp.algorithms.base import Algorithm


class Cyclic(Algorithm):
    """The model travels from hospital to hospital, in a new random order in each round; nothing is averaged.

    So a round takes as long as all its trainings one after the other, and no update is compared with others.
    """

    weighs = False

    def stages(self, hospitals: Sequence[str], draws: np.random.Generator) -> Sequence[Sequence[str]]:
        """See `Algorithm`: each stage has one hospital, so its mean is that hospital's update."""
        return [[hospitals[place]] for place in draws.permutation(len(hospitals))]
