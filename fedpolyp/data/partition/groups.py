"""The unit of a partition: a group of near-duplicate images, which is never divided."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord, Store


@dataclass(frozen=True)
class Groups:
    """A table with one row per duplicate group."""

    images: tuple[tuple[str, ...], ...]  # ids of the group's images
    size: NDArray[np.intp]  # (G,) number of images
    lesion_fraction: NDArray[np.float64]  # (G,) mean over them, each in [0,1]
    source: tuple[str, ...]  # of most of its images; a look of the phantom counts as one
    store: "Store | None" = field(default=None, repr=False)  # where their pixels are, for schemes that look at them

    @classmethod
    def of(
        cls,
        records: Sequence["ImageRecord"],
        store: "Store | None" = None,
        key: Callable[["ImageRecord"], Hashable] = lambda record: record.group,
    ) -> "Groups":
        """The groups of `records` with equal keys; the order of the rows depends only on the ids."""
        members: dict[Hashable, list[ImageRecord]] = {}
        for record in sorted(records, key=lambda record: record.id):
            members.setdefault(key(record), []).append(record)
        size = np.array([len(group) for group in members.values()], dtype=np.intp)
        lesions = np.array([np.mean([record.lesion_fraction for record in group]) for group in members.values()])
        for array in (size, lesions):
            array.setflags(write=False)  # a scheme that sorted them in place would move images without a word
        return cls(
            tuple(tuple(record.id for record in group) for group in members.values()),
            size,
            lesions,
            tuple(Counter(map(source_of, group)).most_common(1)[0][0] for group in members.values()),
            store,
        )

    def __len__(self) -> int:
        return len(self.images)

    def ids(self, rows: NDArray[np.intp]) -> tuple[str, ...]:
        """The sorted ids of all images in these groups."""
        return tuple(sorted(image for row in rows for image in self.images[row]))

    def some(self, rows: NDArray[np.intp]) -> "Groups":
        """The table of these rows alone, in this order."""
        return Groups(
            tuple(self.images[row] for row in rows),
            self.size[rows],
            self.lesion_fraction[rows],
            tuple(self.source[row] for row in rows),
            self.store,
        )

    def means_of(self, feature: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """The mean over each group's images of `feature`, which maps an image uint8 (S, S, 3) to (K,); float64 (G, K).

        Raises:
            ValueError: there is no store with the pixels.
        """
        if self.store is None:
            raise ValueError("this scheme looks at pixels: partition_images(…) needs the store")
        images, positions = self.store.images, self.store.positions
        return np.array([np.mean([feature(images[row]) for row in positions(ids)], axis=0) for ids in self.images])


def source_of(record: "ImageRecord") -> str:
    """The source of an image; each look of the phantom counts as one."""
    return record.source if record.look < 0 else f"look-{record.look + 1}"


def cut(
    order: NDArray[np.intp], groups: Groups, shares: Sequence[float], least: Sequence[int]
) -> list[NDArray[np.intp]]:
    """`order` cut into runs that hold these shares of its images as nearly as whole groups allow."""
    size = groups.size[order]
    middles = np.cumsum(size) - size / 2
    ideal = np.searchsorted(middles, np.cumsum(shares[:-1]) * size.sum())
    kept_for_later = len(order) - np.cumsum(least[:0:-1], dtype=np.intp)[::-1]
    cuts: list[int] = []
    for at, low, high in zip(ideal, least[:-1], kept_for_later, strict=True):
        cuts.append(max((cuts[-1] if cuts else 0) + low, min(int(at), int(high))))
    return np.split(order, cuts)
