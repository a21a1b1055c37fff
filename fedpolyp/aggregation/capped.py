"""A weighted mean in which no hospital weighs more than a given share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update


@dataclass
class Capped:
    """Holds every update until all weights are known, for a share is one of their sum; then takes the mean.

    Memory grows with the hospitals of a round.
    """

    share: float  # the most that one may weigh, of 1
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
    """`weights` so that they sum to 1 and none is above `share`; what is taken off goes to the others in proportion.

    Where there are too few for that, all weigh the same.
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
