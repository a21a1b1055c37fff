"""FedAvg whose batch normalization has the variance of all hospitals together, not the mean of their variances.

Hospitals with means m_i, variances v_i and weights w_i have together the variance Σ w_i v_i + Σ w_i (m_i - Σ w_i m_i)²:
the mean of the variances lacks the second sum, which is large where hospitals differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.algorithms.base import MODEL, Algorithm
from fedpolyp.model.arrays import Arrays

_MEAN, _VARIANCE = "/moving_mean", "/moving_variance"


@dataclass
class _Pooled:
    """A mean whose moving variances have that of the hospitals' means added."""

    mean: Callable[[], Aggregate]
    aggregate: Aggregate = field(init=False)
    squares: Arrays = field(default_factory=dict)  # of the changes of moving means, by the variance's name; weighted
    weight: float = 0.0

    def __post_init__(self) -> None:
        self.aggregate = self.mean()

    def add(self, update: Update) -> None:
        """Include `update`."""
        self.aggregate.add(update)
        for name, change in update.changes[MODEL].items():
            if name.endswith(_MEAN):
                square = update.weight * np.square(change, dtype=np.float64)
                variance = name.removesuffix(_MEAN) + _VARIANCE
                self.squares[variance] = self.squares.get(variance, 0) + square
        self.weight += update.weight

    def result(self) -> Combined:
        """The mean, with the variances of all."""
        combined = self.aggregate.result()
        model = dict(combined.changes[MODEL])
        for variance, square in self.squares.items():
            # all changes are from the mean that was sent, so their variance is that of the means
            shift = model[variance.removesuffix(_VARIANCE) + _MEAN]
            model[variance] = model[variance] + np.maximum(square / self.weight - np.square(shift), 0)
        return Combined({**combined.changes, MODEL: model}, combined.hospitals)


class PooledStatistics(Algorithm):
    """See above; trainable arrays are averaged as in FedAvg."""

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return _Pooled(self.mean)
