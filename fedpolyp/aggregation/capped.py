"""A weighted mean in which no hospital has more than a given share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update


@dataclass
class Capped:
    """Holds every update until all weights are known, because a share depends on their sum; then takes the mean.

    Memory grows with the hospitals of a round.
    """

    share: float  # the largest weight of one hospital, of 1
    mean: Callable[[], Aggregate]
    updates: list[Update] = field(default_factory=list)

    def add(self, update: Update) -> None:
        """Keep `update`."""
        self.updates.append(update)

    def result(self) -> Combined:
        """The mean with capped weights.

        Raises:
            ValueError: nothing was added.
        """
        mean = self.mean()
        for update, weight in zip(self.updates, capped([u.weight for u in self.updates], self.share), strict=True):
            mean.add(replace(update, weight=weight))
        return mean.result()


def capped(weights: Sequence[float], share: float) -> list[float]:
    """`weights` scaled to sum to 1, none above `share`; the excess goes to the others in proportion.

    If there are too few for this, all get the same weight.
    """
    if share * len(weights) <= 1:
        return [1 / len(weights)] * len(weights)
    at_most = [False] * len(weights)
    while True:
        left = 1 - share * sum(at_most)
        total = sum(weight for weight, held in zip(weights, at_most, strict=True) if not held)
        result = [share if held else left * w / total for w, held in zip(weights, at_most, strict=True)]
        over = [not held and value > share for value, held in zip(result, at_most, strict=True)]
        if not any(over):
            return result
        at_most = [held or more for held, more in zip(at_most, over, strict=True)]
