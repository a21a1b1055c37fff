"""Which updates went so far that no training can have taken them there, as the others of their round show."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.checkpoints import Checkpoint
from fedpolyp.model.arrays import is_statistic
from server.image_counts import ImageCounts
from server.replies import Update

# Updates of a round that are held until they have been compared with one another; later ones are compared with them.
# The mean streams: more would take their memory in a federation of many hospitals, and nine have a median that four
# liars cannot move far.
HELD = 9
_ENOUGH = 3  # of which one stands out


@dataclass(frozen=True)
class Reference:
    """How far the first updates of a round went: the median of each group of arrays, and of their steps."""

    lengths: Mapping[str, float]
    steps: float

    @classmethod
    def of(cls, updates: list[tuple[Update, dict[str, float]]]) -> "Reference":
        """That of these updates and their lengths."""
        groups = updates[0][1]
        lengths = {group: float(np.median([own[group] for _, own in updates])) for group in groups}
        return cls(lengths, float(np.median([update.steps for update, _ in updates])))

    def fault(self, update: Update, lengths: Mapping[str, float], most: float) -> str | None:
        """What of `update` went over `most` times as far as the median, moments over its square; None when nothing did.

        One that took more steps than the median may go farther in proportion: no training goes farther than that.
        """
        longer = max(1.0, update.steps / self.steps)
        for group, median in self.lengths.items():
            # An optimizer takes the size of gradients out of its steps; its moments have it, and it varies a lot.
            allowed = longer * (most**2 if group.endswith("moments") else most)
            if lengths[group] > allowed * median > 0:
                return f"its {group} changed {lengths[group] / median:.3g} times as much as in the round's median"
        return None


def lengths(update: Update, before: Checkpoint) -> dict[str, float]:
    """How far an update went from what was sent, by group of arrays: L2 norms, of second moments their root.

    Second moments are squares of gradients: their root is what grows with a gradient as the others do.
    """
    squares = {"weights": 0.0, "statistics": 0.0, "first moments": 0.0, "second moments": 0.0}
    for name, array in update.arrays.items():
        squares["statistics" if is_statistic(name) else "weights"] += _square(array, before.arrays[name])
    for name, array in update.moments.items():
        if name.startswith(("m/", "v/")):
            group = "first moments" if name.startswith("m/") else "second moments"
            squares[group] += _square(array, before.strategy[name])
    norms = {group: float(np.sqrt(square)) for group, square in squares.items()}
    return norms | {"second moments": float(np.sqrt(norms["second moments"]))}


def comparable(
    updates: Iterable[tuple[str, Update]],
    before: Checkpoint,
    most: float,
    counts: ImageCounts,
    refuse: Callable[[str, str], None],
) -> Iterator[tuple[str, Update]]:
    """Those of a round's `updates`, by hospital and in their order, that are fit to be averaged; the others `refuse`d.

    With fewer than three there is no telling which is the strange one: all are taken.

    Args:
        updates: by hospital, each in itself as it should be.
        before: what they started from.
        most: times the median that an update may go.
        counts: of the hospitals' images.
        refuse: is told a hospital and the reason.
    """
    reference: Reference | None = None
    held: list[tuple[str, Update, dict[str, float]]] = []

    def judged() -> Iterator[tuple[str, Update]]:
        assert reference is not None
        outsized = counts.outsized("train", {name: update.images for name, update, _ in held} | weighed)
        for name, update, own in held:
            if reason := reference.fault(update, own, most) or outsized.get(name):
                refuse(name, reason)
            else:
                weighed[name] = update.images
                yield name, update
        held.clear()

    weighed: dict[str, int] = {}
    for name, update in updates:
        held.append((name, update, lengths(update, before)))
        if reference is None and len(held) == HELD:
            reference = Reference.of([(update, own) for _, update, own in held])
        if reference is not None:
            yield from judged()
    if reference is None and len(held) >= _ENOUGH:
        reference = Reference.of([(update, own) for _, update, own in held])
    if reference is not None:
        yield from judged()
    else:
        yield from ((name, update) for name, update, _ in held)


def _square(array: NDArray[Any], sent: NDArray[Any]) -> float:
    change = np.asarray(array, np.float64) - sent
    return float(np.sum(change * change))  # not a product of vectors: its last bits depend on how many cores there are
