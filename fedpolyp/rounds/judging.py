"""Finds updates that are larger than any training could make them, by comparison with the others of their round."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import MODEL, OPTIMIZER
from fedpolyp.model.arrays import blocks, is_statistic
from fedpolyp.rounds.image_counts import ImageCounts

# Updates of a round that are held until they have been compared with one another; later ones are compared with them.
# More would take the memory that the streaming mean saves, and nine have a median that four liars cannot move far.
HELD = 9
_ENOUGH = 3  # fewest updates among which one stands out


@dataclass(frozen=True)
class Reference:
    """The size of the first updates of a round: the median of each group of arrays, and of their steps."""

    lengths: Mapping[str, float]
    steps: float

    @classmethod
    def of(cls, updates: list[tuple[Update, dict[str, float]]]) -> "Reference":
        """The reference from these updates and their lengths."""
        groups = updates[0][1]
        lengths = {group: float(np.median([own[group] for _, own in updates])) for group in groups}
        return cls(lengths, float(np.median([update.steps for update, _ in updates])))

    def fault(self, update: Update, lengths: Mapping[str, float], most: float) -> str | None:
        """What in `update` is more than `most` times the median (for moments, more than its square); None if nothing
        is.

        An update with more steps than the median may be larger in proportion: no training goes farther than that.
        """
        longer = max(1.0, update.steps / self.steps)
        for group, median in self.lengths.items():
            # An optimizer removes the size of gradients from its steps. Its moments keep it, and vary a lot. So do
            # arrays that an algorithm adds: a hospital's first control variate is sent whole, later ones as small
            # changes.
            allowed = longer * (most if group in ("weights", "statistics") else most**2)
            if lengths[group] > allowed * median > 0:
                return f"its {group} changed {lengths[group] / median:.3g} times as much as the round's median"
        return None


def lengths(update: Update) -> dict[str, float]:
    """The size of an update, by kind of array: L2 norms of the differences; of second moments the root of the norm.

    Second moments are squares of gradients, so their root grows with a gradient as the other arrays do. For noisy mean
    gradients the sum is used: its noise is the same at every hospital, while that of a mean is large with few units.
    """
    squares = {"weights": 0.0, "statistics": 0.0, "first moments": 0.0, "second moments": 0.0}
    for group, arrays in update.changes.items():
        for name, change in arrays.items():
            kind = _kind(group, name)
            if kind is not None:
                squares[kind] = squares.get(kind, 0.0) + _square(change)
    units = update.images if update.epsilon is not None else 1
    norms = {kind: units * float(np.sqrt(square)) for kind, square in squares.items()}
    return norms | {"second moments": float(np.sqrt(norms["second moments"]))}


def _kind(group: str, name: str) -> str | None:
    """The kind as which an array is compared; None for the optimizer's step counter, which is checked separately."""
    if group == MODEL:
        return "statistics" if is_statistic(name) else "weights"
    if group == OPTIMIZER:
        return {"m": "first moments", "v": "second moments"}.get(name.partition("/")[0])
    return group


def comparable(
    updates: Iterable[Update], most: float, counts: ImageCounts, refuse: Callable[[str, str], None]
) -> Iterator[Update]:
    """The updates in `updates` that may be combined, in their order; the others are passed to `refuse`.

    With fewer than three an outlier cannot be recognized: all are accepted.

    Args:
        updates: each valid by itself.
        most: times the median that an update may be.
        counts: of the hospitals' images.
        refuse: receives a hospital and the reason.
    """
    reference: Reference | None = None
    held: list[tuple[Update, dict[str, float]]] = []
    weighed: dict[str, int] = {}

    def judged() -> Iterator[Update]:
        assert reference is not None
        outsized = counts.outsized("train", {update.hospital: update.images for update, _ in held} | weighed)
        for update, own in held:
            if reason := reference.fault(update, own, most) or outsized.get(update.hospital):
                refuse(update.hospital, reason)
            else:
                weighed[update.hospital] = update.images
                yield update
        held.clear()

    for update in updates:
        held.append((update, lengths(update)))
        if reference is None and len(held) == HELD:
            reference = Reference.of(held)
        if reference is not None:
            yield from judged()
    if reference is None and len(held) >= _ENOUGH:
        reference = Reference.of(held)
    if reference is not None:
        yield from judged()
    else:
        yield from (update for update, _ in held)


def _square(change: NDArray[Any]) -> float:
    # no product of vectors: its last bits depend on the number of cores
    return sum(float(np.sum(values * values)) for (values,) in blocks(change))
