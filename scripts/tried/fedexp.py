"""FedExP: D. Jhunjhunwala, S. Wang, G. Joshi, FedExP: Speeding Up Federated Averaging via Extrapolation, ICLR 2023."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, plus
from fedpolyp.model.arrays import is_statistic
from fedpolyp.section import Section

SIZES = "sizes"


@dataclass
class _WithSizes:
    """A mean that also tells the mean squared norm of the updates of trainable arrays."""

    mean: Callable[[], Aggregate]
    aggregate: Aggregate = field(init=False)
    squares: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        self.aggregate = self.mean()

    def add(self, update: Update) -> None:
        """Count `update`."""
        self.aggregate.add(update)
        self.squares += update.weight * _square(update.changes[MODEL])
        self.weight += update.weight

    def result(self) -> Combined:
        """The mean, and the sizes beside it."""
        combined = self.aggregate.result()
        return Combined({**combined.changes, SIZES: {"mean": np.array(self.squares / self.weight)}}, combined.hospitals)


class FedExP(Algorithm):
    """The server goes along the mean update max(1, mean ||Δ_i||² / (2 (||mean Δ||² + ε))) times as far.

    Of trainable arrays; moving statistics are averaged as in FedAvg.
    """

    class Settings(Section):
        """Of `[algorithm]`."""

        epsilon: float = Field(1e-3, ge=0, description="FedExP: added to the squared norm of the mean update")

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return _WithSizes(self.mean)

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        changes = dict(combined.changes)
        mean_square = float(changes.pop(SIZES)["mean"])
        mean = changes[MODEL]
        rate = max(1.0, mean_square / (2 * (_square(mean) + self.settings.epsilon)))
        steps = {name: change if is_statistic(name) else rate * change for name, change in mean.items()}
        after = super().combine(state, Combined(changes, combined.hospitals))
        return {**after, MODEL: plus(state[MODEL], steps)}


def _square(changes: Mapping[str, Any]) -> float:
    return float(sum(np.sum(np.square(c, dtype=np.float64)) for name, c in changes.items() if not is_statistic(name)))
