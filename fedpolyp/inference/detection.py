"""Which lesions are found: connected parts of the true mask against those of a prediction."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ENOUGH = 0.5  # a lesion is found if a predicted one overlaps it with this IoU


@dataclass(frozen=True)
class Detection:
    """The detections in one image."""

    lesions: int
    found: int  # lesions that a predicted one overlaps enough
    false: int  # predicted ones that overlap no lesion enough


def detect(predicted: NDArray[Any], truth: NDArray[Any]) -> Detection:
    """Compare masks (H, W), where anything but 0 is lesion. With an IoU of a half or more, no two can match the same
    lesion.
    """
    of_truth, true = _parts(truth)
    of_prediction, seen = _parts(predicted)
    both = np.zeros((true + 1, seen + 1), np.int64)
    np.add.at(both, (of_truth.ravel(), of_prediction.ravel()), 1)
    areas, predicted_areas = both.sum(axis=1)[1:, None], both.sum(axis=0)[None, 1:]
    overlap = both[1:, 1:]
    enough = overlap >= ENOUGH * (areas + predicted_areas - overlap)
    return Detection(true, int(enough.any(axis=1).sum()), int(seen - enough.any(axis=0).sum()))


def _parts(mask: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    count, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32), count - 1
