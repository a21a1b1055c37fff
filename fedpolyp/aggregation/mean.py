"""The weighted mean of updates, summed as they come and never held: memory does not grow with the hospitals."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedpolyp.aggregation.aggregate import Combined, Update


@dataclass
class WeightedMean:
    """A running mean in float64: same updates in the same order, same bits (McMahan et al., AISTATS 2017)."""

    total: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    weight: float = 0.0
    hospitals: list[str] = field(default_factory=list)

    def add(self, update: Update) -> None:
        """Include `update` with its weight."""
        for group, arrays in update.changes.items():
            total = self.total.setdefault(group, {})
            for name, array in arrays.items():
                term = np.multiply(array, update.weight, dtype=np.float64)
                if name in total:
                    total[name] += term
                else:
                    total[name] = term
        self.weight += update.weight
        self.hospitals.append(update.hospital)

    def result(self) -> Combined:
        """The mean of each array.

        Raises:
            ValueError: nothing was added.
        """
        if self.weight <= 0:
            raise ValueError("there is nothing to average")
        means = {
            group: {name: total / self.weight for name, total in arrays.items()} for group, arrays in self.total.items()
        }
        return Combined(means, tuple(self.hospitals))
