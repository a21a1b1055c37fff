"""What is dealt: groups of near-duplicate images, of which none is ever divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord


@dataclass(frozen=True)
class Groups:
    """A table with one row per duplicate group."""

    images: tuple[tuple[str, ...], ...]  # ids of the group's images
    size: NDArray[np.intp]  # (G,) how many those are
    lesion_fraction: NDArray[np.float64]  # (G,) mean over them, each in (0,1]

    @classmethod
    def of(cls, records: Sequence["ImageRecord"]) -> "Groups":
        """The groups of `records`; the rows' order depends on the ids alone, not on the order of `records`."""
        members: dict[int, list[ImageRecord]] = {}
        for record in sorted(records, key=lambda record: record.id):
            members.setdefault(record.group, []).append(record)
        return cls(
            tuple(tuple(record.id for record in group) for group in members.values()),
            np.array([len(group) for group in members.values()], dtype=np.intp),
            np.array([np.mean([record.lesion_fraction for record in group]) for group in members.values()]),
        )

    def __len__(self) -> int:
        return len(self.images)

    def ids(self, rows: NDArray[np.intp]) -> tuple[str, ...]:
        """The sorted ids of all images in these groups."""
        return tuple(sorted(image for row in rows for image in self.images[row]))


def cut(
    order: NDArray[np.intp], groups: Groups, shares: Sequence[float], least: Sequence[int]
) -> list[NDArray[np.intp]]:
    """`order` cut into runs that hold these shares of its images as nearly as whole groups allow.

    Each cut is off by half a group at most, but run k gets at least `least[k]` groups, as long as there are enough.
    """
    size = groups.size[order]
    middles = np.cumsum(size) - size / 2
    ideal = np.searchsorted(middles, np.cumsum(shares[:-1]) * size.sum())
    kept_for_later = len(order) - np.cumsum(least[:0:-1], dtype=np.intp)[::-1]
    cuts: list[int] = []
    for at, low, high in zip(ideal, least[:-1], kept_for_later, strict=True):
        cuts.append(max((cuts[-1] if cuts else 0) + low, min(int(at), int(high))))
    return np.split(order, cuts)
