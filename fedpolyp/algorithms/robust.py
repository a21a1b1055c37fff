"""Aggregates that a few dishonest hospitals cannot move far: the median, the trimmed mean, Krum and Multi-Krum.

D. Yin et al., Byzantine-Robust Distributed Learning, ICML 2018; P. Blanchard et al., Machine Learning with Adversaries:
Byzantine Tolerant Gradient Descent, NeurIPS 2017. All updates have the same weight, because a dishonest hospital could
choose its weight.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedpolyp.aggregation.aggregate import Aggregate, Update
from fedpolyp.aggregation.collecting import Collecting
from fedpolyp.algorithms.base import MODEL, Algorithm
from fedpolyp.section import Section

Array = NDArray[np.float64]
FEWEST_TRIMMED = 3  # values of which one can be left out at either end


class _Coordinatewise(Algorithm):
    """Every number of the update separately, from all hospitals' values."""

    weighs = False

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return Collecting(self._join)

    def _join(self, updates: Sequence[Update]) -> Mapping[str, Mapping[str, Array]]:
        return {
            group: {name: self.middle(_side_by_side(updates, group, name)) for name in arrays}
            for group, arrays in updates[0].changes.items()
        }

    def middle(self, values: Array) -> Array:
        """One value (...) from all values (hospitals, ...)."""
        raise NotImplementedError


class Median(_Coordinatewise):
    """The median of the updates (Yin et al., Algorithm 1, option I)."""

    def middle(self, values: Array) -> Array:
        """See `_Coordinatewise`."""
        result: Array = np.median(values, axis=0)
        return result


class TrimmedMean(_Coordinatewise):
    """The mean without the largest and the smallest values (Yin et al., Algorithm 1, option II)."""

    class Settings(Section):
        """Of `[algorithm]`."""

        trim: float = Field(
            0.2,
            ge=0,
            lt=0.5,
            description="Trimmed mean: fraction of the values left out at either end, but one of three at least",
        )

    def middle(self, values: Array) -> Array:
        """See `_Coordinatewise`."""
        # As it was typed: 0.29 times 100 is 29, but the float nearest to 0.29 is a little less.
        cut = int(Fraction(str(self.settings.trim)) * len(values))
        # A round with absent hospitals must not silently become a plain mean.
        if self.settings.trim and len(values) >= FEWEST_TRIMMED:
            cut = max(1, cut)
        result: Array = np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)
        return result


class Krum(Algorithm):
    """The one update that is nearest to its neighbours (Blanchard et al., section 4)."""

    weighs = False

    class Settings(Section):
        """Of `[algorithm]`."""

        byzantine: int = Field(
            1, ge=0, le=1000, description="Krum, Multi-Krum: f, how many hospitals may lie in a round"
        )

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return Collecting(self._join)

    @property
    def least(self) -> int:
        """See `Algorithm`: 2 f + 3; with fewer, the nearest neighbours could all be liars."""
        return 2 * int(self.settings.byzantine) + 3

    def chosen(self, replies: int) -> int:
        """How many of so many updates are averaged."""
        return 1

    def _join(self, updates: Sequence[Update]) -> Mapping[str, Mapping[str, Any]]:
        count, liars = len(updates), self.settings.byzantine
        if count < self.least:
            raise ValueError(f"krum with {liars} liars needs {self.least} updates; got {count}")
        scores = krum_scores([_flat(update) for update in updates], liars)
        best = sorted(range(count), key=lambda number: (scores[number], number))[: self.chosen(count)]
        taken = [updates[number] for number in sorted(best)]
        return {
            group: {name: _side_by_side(taken, group, name).mean(axis=0) for name in arrays}
            for group, arrays in updates[0].changes.items()
        }


class MultiKrum(Krum):
    """The mean of the n - f updates that are nearest to their neighbours."""

    def chosen(self, replies: int) -> int:
        """See `Krum`."""
        return replies - int(self.settings.byzantine)


def krum_scores(updates: Sequence[Array], liars: int) -> list[float]:
    """For each of n vectors the sum of the squared distances to its n - f - 2 nearest others, where f is `liars`."""
    count = len(updates)
    squares = np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            difference = updates[one] - updates[other]
            # No product of vectors: its last bits depend on the number of cores.
            squares[one, other] = squares[other, one] = float(np.sum(difference * difference))
    return [float(np.sort(np.delete(squares[one], one))[: count - liars - 2].sum()) for one in range(count)]


def _flat(update: Update) -> Array:
    """The model's part of an update as one vector: the optimizer's has another scale."""
    return np.concatenate([array.astype(np.float64).reshape(-1) for array in update.changes[MODEL].values()])


def _side_by_side(updates: Sequence[Update], group: str, name: str) -> Array:
    return np.stack([update.changes[group][name].astype(np.float64) for update in updates])
