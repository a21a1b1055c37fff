"""From the hospitals' weights to the next global model.

Every strategy here needs only the weighted mean of the replies, so replies are added up as they come and never held.
Moving statistics are averaged and nothing else: a server optimizer's steps would push a variance below zero.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedpolyp.model.arrays import Arrays


@dataclass
class WeightedMean:
    """A running mean of named arrays, in float64: same replies in the same order, same bits."""

    total: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    weight: float = 0.0

    def add(self, arrays: Arrays, weight: float) -> None:
        """Count `arrays` with `weight`, their number of training images (McMahan et al., AISTATS 2017)."""
        for name, array in arrays.items():
            term = array.astype(np.float64) * weight
            self.total[name] = self.total[name] + term if name in self.total else term
        self.weight += weight

    def result(self, like: Arrays) -> Arrays:
        """The mean, in the order and dtypes of `like`; integers (Adam's step counter) are rounded.

        Raises:
            ValueError: nothing was added.
        """
        if self.weight <= 0:
            raise ValueError("there is nothing to average")
        means = {name: self.total[name] / self.weight for name in like}
        return {
            name: np.asarray(np.rint(mean) if like[name].dtype.kind == "i" else mean, like[name].dtype)
            for name, mean in means.items()
        }
