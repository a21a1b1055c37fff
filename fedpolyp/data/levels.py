"""Which values of a folder's masks are lesion, and which are background: decided from the histograms of all masks.

A mask consists of levels: values that cover areas (0 and 255; classes 0, 1 and 2; the numbers of instances). All other
values come from JPEG noise or from a resize; they count as the nearest level. A value is a level if it is solid: if it
has pixels whose eight neighbours all have the same value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NOISE = 7  # JPEG at usual qualities turns 0 into 0 to 7, and 255 into 248 to 255
FEW = 16  # a mask with so few values was saved without loss
_OF_MANY = 0.15  # a mask with more than this share of pixels off every level is not a mask
_SUPPORT = 0.1  # of the masks that must have a level if none was saved without loss
_AREA = 0.01  # of the pixels that are not 0: a level in a mask with noise covers at least this
_DIM = 64  # below it, values of 1 to 7 are classes, not noise
_AROUND = np.ones((3, 3), np.uint8)
_ALIKE = 0.05  # of the area of brighter levels: above it, 1 to 7 are not noise
_IGNORED = 255  # PASCAL VOC and others use this index for pixels to ignore
_STEPS = 3  # an edge has at least so many greys
_TOUCHING = 0.75  # of the pixels of an edge's greys: in regions between darker and brighter ones
_FLAT = 4  # JPEG lets neighbours inside an area of one value differ by this
_FAR_BELOW = 0.25  # of the darkest common lesion level: darker levels in only a few masks are not understood


class Undecided(Exception):
    """The values do not show what is lesion; the message says why, for a sentence that begins with 'the masks'."""


@dataclass(frozen=True)
class Histogram:
    """The values of one mask."""

    values: NDArray[np.int64]  # (V,), ascending
    counts: NDArray[np.int64]  # (V,) pixels of each
    solid: NDArray[np.int64]  # (V,) pixels of each whose neighbours all have the same value
    areas: NDArray[np.int64]  # (V,) pixels of each inside areas: solid, or nearly so after JPEG
    lossy: bool
    indices: bool = False  # of a palette: each is a name, and none is near another
    between: float = 0.0  # share of greys in regions that touch both darker and brighter ones; 0 for few greys

    @classmethod
    def of(cls, pixels: NDArray[Any], lossy: bool, indices: bool = False) -> "Histogram":
        """The histogram of `pixels`, uint8 or uint16 (H, W)."""
        spread = cv2.subtract(cv2.dilate(pixels, _AROUND), cv2.erode(pixels, _AROUND))
        bins = 256 if pixels.dtype == np.uint8 else 65536
        counts, solid, areas = (
            cv2.calcHist([pixels], [0], where, [bins], [0, bins]).ravel().astype(np.int64)
            for where in (None, cv2.inRange(spread, 0, 0), cv2.inRange(spread, 0, _FLAT if lossy else 0))
        )
        values = np.flatnonzero(counts)
        between = 0.0 if lossy or indices else _between(pixels, values)
        return cls(values, counts[values], solid[values], areas[values], lossy, indices, between)

    @cached_property
    def exact(self) -> bool:
        """Whether the mask was saved without loss, so that each of its values has a meaning."""
        return not self.lossy and len(self.values) <= FEW

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """The values that cover areas."""
        area = _AREA * self.counts[self.values > 0].sum()
        if self.exact:
            solid = self.values[self.solid > 0]
            if self.indices or not solid.any():
                return self.values  # names, or nothing but small or thin shapes
            # A line around the shapes that is brighter than all of them is not an edge: often it marks pixels to
            # ignore.
            line = (self.values > solid[-1] + NOISE) & (self.values <= 255) & (self.counts >= area)
            return self.values[(self.solid > 0) | line]
        least = np.where(self.values == 0, 1, max(1, area))
        return self.values[self.solid >= least]

    @cached_property
    def many(self) -> bool:
        """Whether it has many grey levels, like a photograph."""
        if self.exact:
            return False
        levels, noise = self.levels, _noise(self.values)
        ends = np.flatnonzero(np.diff(levels) > noise) + 1
        if len(ends) >= FEW or any(len(run) and run[-1] - run[0] > 2 * noise for run in np.split(levels, ends)):
            return True  # a slow gradient is solid, but has no levels
        return bool(self.counts[far(self.values, self.levels)].sum() > _OF_MANY * self.counts.sum())

    def pixels(self, low: int, high: int) -> int:
        """How many solid pixels have values from `low` to `high`."""
        return int(self.solid[(self.values >= low) & (self.values <= high)].sum())


@dataclass(frozen=True)
class Levels:
    """The levels of masks of one depth (8 or 16 bits), and which are lesion."""

    values: tuple[int, ...]  # ascending
    lesion: tuple[bool, ...]
    depth: int  # 8 or 16
    edge: tuple[int, ...] = ()  # greys that cover areas, but are a coarse edge between background and lesion

    def table(self, mask: Histogram) -> NDArray[np.uint8]:
        """255 for each value that is lesion in `mask`, 0 for the others, (256,) or (65536,).

        A value counts as the nearest level that the mask itself has. So the cut does not depend on levels that only
        other masks have.
        """
        if not self.values:
            return np.zeros(2**self.depth, np.uint8)
        levels, lesion = np.array(self.values, np.int64), np.array(self.lesion)
        seen = mask.values if mask.exact else mask.values[mask.solid > 0]
        has = ~far(levels, seen, 0 if mask.exact else None)
        if len(mask.values):
            has[abs(levels - mask.values[-1]).argmin()] = True
        kept = ~lesion | has
        levels, lesion = levels[kept], lesion[kept]
        if len(levels) == 0:
            return np.zeros(2**self.depth, np.uint8)
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.arange(2**self.depth), side="right")
        return np.where(lesion[nearest], np.uint8(255), np.uint8(0))

    def __str__(self) -> str:
        flags = np.array(self.lesion, bool)
        parts = {"background": ~flags, "lesion": flags}
        words = [f"{name} {spans(np.array(self.values)[of].tolist())}" for name, of in parts.items() if of.any()]
        return ", ".join(words) + f", greys between them cut at half ({spans(self.edge)})" * bool(self.edge)


def decide(masks: Sequence[Histogram], depth: int, given: Sequence[int] = ()) -> Levels:
    """The levels of `masks`, of `depth` bits each: 0 is background and all else lesion, unless `given` says what is
    lesion.

    Raises:
        Undecided: which values are lesion cannot be told.
    """
    levels = _found(masks)
    if given:
        if any(not mask.exact for mask in masks):
            levels = levels[far(levels, np.array(given))]
        levels = np.union1d(levels, given)
        return Levels(tuple(levels.tolist()), tuple(np.isin(levels, given).tolist()), depth)
    by_index = bool(masks) and all(mask.indices for mask in masks)
    if by_index and levels[-1:] == [_IGNORED] and len(named := levels[levels > 0]) > 1:
        others = spans(named[:-1].tolist())
        raise Undecided(f"have palette index {_IGNORED}, often pixels to ignore, beside {others}")
    edge = _edge(levels, masks)
    levels = levels[~np.isin(levels, edge)]
    highest = 0 if by_index else _highest_noise(levels, masks, depth)
    if len(levels) and levels[0] > highest:
        raise Undecided(f"have no background: no value of 0, but {spans(levels.tolist())}")
    return Levels(tuple(levels.tolist()), tuple((levels > highest).tolist()), depth, tuple(edge.tolist()))


def guess(masks: Sequence[Histogram], depth: int) -> Levels:
    """The likeliest levels if `decide` fails: the lowest level is background, all others are lesion.

    Without levels, as in photographs, everything brighter than half of the brightest is lesion; with one level, all of
    it.
    """
    levels = _found([mask for mask in masks if not mask.many])
    if len(levels) > 1:
        return Levels(tuple(levels.tolist()), (False, *(True for _ in levels[1:])), depth)
    top = max((int(mask.values[-1]) for mask in masks), default=0)
    if depth == 8 and top >= _DIM:
        top = 255
    return Levels((0, top), (False, True), depth) if top else Levels((0,), (False,), depth)


def far(values: NDArray[np.int64], levels: NDArray[np.int64], noise: int | None = None) -> NDArray[np.bool_]:
    """The `values` that are farther from every one of `levels` than noise reaches (`noise`, where it is given)."""
    if len(levels) == 0:
        return np.ones(len(values), bool)
    right = np.searchsorted(levels, values).clip(max=len(levels) - 1)
    left = (right - 1).clip(min=0)
    return np.minimum(abs(levels[left] - values), abs(levels[right] - values)) > (
        _noise(values) if noise is None else noise
    )


def _noise(values: NDArray[np.int64]) -> int:
    return NOISE if len(values) == 0 or values[-1] <= 255 else 257 * NOISE


def spans(values: Sequence[int]) -> str:
    """`values` in words, at most a few."""
    if len(values) > 6:
        return f"{values[0]} to {values[-1]} ({len(values)} values)"
    return ", ".join(map(str, values))


def _found(masks: Sequence[Histogram]) -> NDArray[np.int64]:
    """All levels of masks saved without loss, and those that enough of the other masks share.

    Levels far darker than the lesion of the others, in few masks or nowhere solid, are left out: they are noise, or
    their meaning is not known.
    """
    exact = [mask.levels for mask in masks if mask.exact]
    found = set(np.concatenate(exact).tolist()) if exact else set()
    noisy = [mask.levels for mask in masks if not mask.exact]
    if not noisy:
        return _without_dim(np.array(sorted(found), np.int64), masks)
    ends = {0: (0, NOISE), 255: (255 - NOISE, 255), 65535: (65535 - 257 * NOISE, 65535)}
    votes = np.bincount(np.concatenate([np.unique(levels) for levels in noisy]).astype(np.int64), minlength=65536)
    chosen: list[int] = []
    for value in np.argsort(-votes, kind="stable")[: np.count_nonzero(votes)].tolist():
        level = next((end for end, (low, high) in ends.items() if low <= value <= high), value)
        near = abs(np.array([*chosen, *found], np.int64) - level) <= NOISE
        if not near.any() and votes[max(0, value - NOISE) : value + NOISE + 1].sum() >= _SUPPORT * len(noisy):
            chosen.append(level)
    return _without_dim(np.array(sorted({*found, *chosen}), np.int64), masks)


def _without_dim(levels: NDArray[np.int64], masks: Sequence[Histogram]) -> NDArray[np.int64]:
    noise = _noise(levels)
    bright = levels[levels > noise]
    if len(bright) == 0 or any(mask.indices for mask in masks):
        return levels
    have = np.zeros(len(bright), np.int64)
    for mask in masks:
        solid = mask.levels[np.isin(mask.levels, mask.values[mask.solid > 0])]
        have += ~far(bright, solid[solid > noise], NOISE)
    common = bright[have > max(1, _SUPPORT * len(masks))]
    if len(common) == 0 or common[-1] < _DIM * noise / NOISE:
        return levels
    dim = bright[~np.isin(bright, common) & (bright < _FAR_BELOW * common[0])]
    return levels[~np.isin(levels, dim)]


def _between(pixels: NDArray[Any], values: NDArray[np.int64]) -> float:
    """If there are enough grey pixels for an edge, the share of them in regions between darker and brighter ones."""
    greys = _greys(values)
    if not (len(greys) >= _STEPS and len(values) <= FEW and values[0] == 0 and 255 - NOISE <= values[-1] <= 255):
        return 0.0
    brighter, darker = cv2.dilate(pixels, _AROUND), cv2.erode(pixels, _AROUND)
    inside = total = 0
    for grey in greys.tolist():
        count, regions = cv2.connectedComponents(cv2.inRange(pixels, grey, grey))
        sizes = np.bincount(regions.ravel(), minlength=count)
        both = np.ones(count, bool)
        for found in (brighter > grey, darker < grey):
            both &= np.isin(np.arange(count), regions[found])
        inside += int(sizes[1:][both[1:]].sum())
        total += int(sizes[1:].sum())
    return inside / total


def _greys(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values[(values > NOISE) & (values < 255 - NOISE)]


def _edge(levels: NDArray[np.int64], masks: Sequence[Histogram]) -> NDArray[np.int64]:
    """The levels between 0 and 255 that are not classes, but a soft edge that was enlarged to blocks."""
    greys, none = _greys(levels), np.empty(0, np.int64)
    if len(greys) < _STEPS or levels[0] > NOISE or not 255 - NOISE <= levels[-1] <= 255:
        return none
    step = greys[-1] / np.round(greys[-1] / np.diff([0, *greys]).min())
    have = [mask.between for mask in masks if np.isin(greys, mask.values).any()]
    even = (abs(greys / step - np.round(greys / step)) * step <= 2).all()
    return greys if even and np.median(have) >= _TOUCHING else none


def _highest_noise(levels: NDArray[np.int64], masks: Sequence[Histogram], depth: int) -> int:
    """The highest level that is background with noise; 0 where levels of 1 to 7 are classes."""
    if depth == 16:
        if len(levels) == 0 or levels[-1] < 257 * (255 - NOISE):
            return 0
        between = (levels > 257 * NOISE) & (levels < 257 * (255 - NOISE))
        return 0 if between.any() else 257 * NOISE
    low, high = levels[(levels > 0) & (levels <= NOISE)], levels[levels > NOISE]
    if len(high) == 0 or high[-1] < _DIM:
        return 0
    if levels[0] > 0 and high[0] >= 255 - NOISE:
        return NOISE  # no 0 beside them: they are the background
    both = [mask for mask in masks if mask.exact and mask.values[-1] > NOISE]
    dark = sum(mask.pixels(1, NOISE) for mask in both)
    bright = sum(mask.pixels(NOISE + 1, 255) for mask in both)
    if len(low) == 0 or dark < _ALIKE * bright:
        return NOISE
    if len(low) + len(high) >= high[-1] / 2:  # 1, 2, 3 and so on: instances
        return 0
    raise Undecided(f"have areas of {spans(low.tolist())} beside {spans(high.tolist())}, noise or a class")
