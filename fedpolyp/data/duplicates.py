"""Near-duplicates: images so similar that they must stay together in every split."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.alike import Alike

# Coarse enough that a slightly moved scene stays similar. Of Kvasir-SEG's 998 images seven pairs are above 0.96, six of
# them true on sight (at 32 pixels a side: five, all true). A false pair merely keeps two images together; a missed pair
# leaks, and details, in `alike`, find more. Near 0.93 the black corner boxes make different images similar.
SIDE = 16
THRESHOLD = 0.96
CHUNK = 512  # rows of the N x N product held at a time


def duplicate_groups(images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The group of each of `images`, as intp (N,): the position of the group's first image.

    `images` are uint8 (N, S, S, 3) RGB, or their grey thumbnails, (N, 16, 16).

    Two images are near-duplicates if the Pearson correlation of their grey thumbnails is above 0.96. Such pairs are
    joined to groups. An image of one flat grey correlates with none.
    """
    thumbnails = np.array([_thumbnail(image) for image in images], dtype=np.float64).reshape(len(images), SIDE * SIDE)
    # Zero-mean, times the pixel count: whole numbers, whose products float64 sums exactly (below 2**40), so that no
    # order of summation (threads, chunks, processor) can tip a pair over the threshold.
    centred = SIDE * SIDE * thumbnails - thumbnails.sum(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    groups = np.arange(len(images), dtype=np.intp)
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        # Each pair once: above the diagonal, which is where this chunk's columns start.
        alike = np.triu(centred[rows] @ centred[start:].T > THRESHOLD * norms[rows, None] * norms[start:], k=1)
        for row in np.flatnonzero(alike.any(axis=1)):
            linked = np.append(groups[start:][alike[row]], groups[start + row])
            groups[np.isin(groups, linked)] = linked.min()
    return groups


def paired(groups: NDArray[np.intp], pairs: Iterable[Alike]) -> NDArray[np.intp]:
    """`groups`, (N,), joined where details show that two images are of the same scene."""
    joined = groups.copy()
    for pair in pairs:
        if pair.confirmed and (one := joined[pair.first]) != (other := joined[pair.second]):
            joined[joined == max(one, other)] = min(one, other)
    return joined


def united(groups: NDArray[np.intp], labels: Sequence[tuple[str, ...]]) -> NDArray[np.intp]:
    """`groups`, (N,), joined where images share one of their `labels` (a patient, a procedure, a video)."""
    joined = groups.copy()
    first: dict[str, int] = {}
    for row, own in enumerate(labels):
        for label in own:
            one, other = joined[first.setdefault(label, row)], joined[row]
            if one != other:
                joined[joined == max(one, other)] = min(one, other)
    return joined


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
