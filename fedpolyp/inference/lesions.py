"""Lesions in a mask: its connected parts."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lesion:
    """One connected part of a mask; corners count as touching."""

    left: int  # pixels of the bounding box, from the image's left and top
    top: int
    width: int
    height: int
    area: float  # fraction of the image, in (0, 1]
    probability: float  # mean over its pixels, in [0, 1]


def lesions(mask: NDArray[np.uint8], probability: NDArray[np.float32]) -> tuple[Lesion, ...]:
    """The lesions in `mask` (H, W) in {0, 1}, the largest first; `probability` (H, W) is what was cut to the mask."""
    count, labels, found, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=8)
    if count < 2:
        return ()
    sums = np.bincount(labels.ravel(), probability.ravel(), minlength=count)
    parts = []
    for one, (left, top, width, height, area) in enumerate(found[1:].tolist(), 1):
        parts.append(Lesion(left, top, width, height, area / mask.size, float(sums[one] / area)))
    return tuple(sorted(parts, key=lambda lesion: (-lesion.area, lesion.top, lesion.left)))
