"""Scores of predicted masks: pixels are counted once for each image; every overlap score is one line of the counts."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def count_pixels(pred: NDArray[Any], truth: NDArray[Any]) -> Counts:
    """Pixels of each image by outcome.

    Args:
        pred: predicted masks (N,H,W), uint8 or bool; anything but 0 is polyp.
        truth: true masks, likewise.

    Returns:
        (N,4) int64, columns true positive, false positive, false negative, true negative.

    Raises:
        ValueError: the shapes differ or are not (N,H,W).
    """
    pred, truth = _as_masks(pred, truth)
    tp = np.count_nonzero(pred & truth, axis=(1, 2))
    fp = np.count_nonzero(pred, axis=(1, 2)) - tp
    fn = np.count_nonzero(truth, axis=(1, 2)) - tp
    tn = math.prod(pred.shape[1:]) - tp - fp - fn
    return np.stack([tp, fp, fn, tn], axis=1).astype(np.int64)


def dice(counts: Counts) -> Scores:
    """2 tp / (2 tp + fp + fn) of each image, (N,) in [0,1]; 1 when both masks are empty, 0 when one is."""
    tp, fp, fn, _ = counts.T
    return _ratio(2 * tp, 2 * tp + fp + fn, counts)


def iou(counts: Counts) -> Scores:
    """tp / (tp + fp + fn) of each image, (N,) in [0,1]; 1 when both masks are empty, 0 when one is."""
    tp, fp, fn, _ = counts.T
    return _ratio(tp, tp + fp + fn, counts)


def precision(counts: Counts) -> Scores:
    """tp / (tp + fp) of each image, (N,) in [0,1]; 1 when both masks are empty, 0 when only one is."""
    tp, fp, _, _ = counts.T
    return _ratio(tp, tp + fp, counts)


def recall(counts: Counts) -> Scores:
    """tp / (tp + fn) of each image, (N,) in [0,1]; 1 when both masks are empty, 0 when only one is."""
    tp, _, fn, _ = counts.T
    return _ratio(tp, tp + fn, counts)


# The scores of an image's counts, by name.
OVERLAPS: Mapping[str, Callable[[Counts], Scores]] = {
    "dice": dice,
    "iou": iou,
    "precision": precision,
    "recall": recall,
}


def with_polyp(counts: Counts) -> NDArray[np.bool_]:
    """Which images have a polyp in the true mask, (N,); all if none has, so that a mean over them exists."""
    there = counts[:, 0] + counts[:, 2] > 0
    return there if there.any() else np.ones_like(there)


def without_polyp(counts: Counts) -> dict[str, float]:
    """A model's predictions in images without a polyp; empty if there are none.

    Returns:
        `images`, how many there are; `rate`, the share of them in which it predicts a polyp; `area`, the mean share of
            their pixels that it marks; both in [0,1].
    """
    seen = counts[counts[:, 0] + counts[:, 2] == 0]
    if not len(seen):
        return {}
    false = seen[:, 1]
    return {
        "images": len(seen),
        "rate": float((false > 0).mean()),
        "area": float((false / seen.sum(axis=1)).mean()),
    }


def means(counts: Counts, losses: Scores) -> dict[str, float]:
    """Mean Dice and IoU of the images with a polyp (of all, if none has one), and the mean of all `losses` (N,)."""
    there = counts[with_polyp(counts)]
    return {"dice": float(dice(there).mean()), "iou": float(iou(there).mean()), "loss": float(losses.mean())}


def hd95(pred: NDArray[Any], truth: NDArray[Any]) -> Scores:
    """95th percentile of the symmetric surface distance of each image, as a fraction of the image diagonal.

    Pooled as in medpy's `metric.binary.hd95` (https://github.com/loli/medpy): one percentile, linearly interpolated,
    over the distances from every boundary pixel of either mask to the nearest boundary pixel of the other. (MONAI takes
    the larger of two one-way percentiles: another number, not to be mixed with this one in a table.) A boundary pixel
    is one that erosion with the 4-neighbourhood removes; beyond the image's edge there is no polyp.

    Args:
        pred: predicted masks (N,H,W), uint8 or bool; anything but 0 is polyp.
        truth: true masks, likewise.

    Returns:
        (N,) in [0,1]; 0 when both masks are empty, 1 when one is.

    Raises:
        ValueError: the shapes differ or are not (N,H,W).
    """
    pred, truth = _as_masks(pred, truth)
    diagonal = math.hypot(*pred.shape[1:])
    distances = [_percentile_distance(p, t, diagonal) for p, t in zip(pred, truth, strict=True)]
    return np.array(distances, dtype=np.float64) / diagonal


# How far a part of one contour may be from the other and still match: 1 % of the image's diagonal, which is 8 pixels of
# an image of 640 x 480. There is no clinical number for polyps.
SURFACE_TOLERANCE = 0.01
# The length of the contour in a square of 2 x 2 pixels, for each combination of pixels in the mask: bits 8 4 over 2 1.
_CONTOUR = np.array([0, 0.5, 0.5, 0, 0.5, 0, 1, 0.5, 0.5, 1, 0, 0.5, 0, 0.5, 0.5, 0]) * math.sqrt(2)
_CONTOUR[[3, 5, 10, 12]] = 1.0


def surface_dice(pred: NDArray[Any], truth: NDArray[Any], tolerance: float) -> Scores:
    """The share of both contours that is within `tolerance` of the other, in [0,1], of each image.

    S. Nikolov et al., Clinically Applicable Segmentation of Head and Neck Anatomy, JMIR 2021: the normalized surface
    Dice, computed as in their package surface-distance: a contour runs between pixels, and each piece counts by its
    length.

    Args:
        pred: predicted masks (N,H,W), uint8 or bool; anything but 0 is polyp.
        truth: true masks, likewise.
        tolerance: pixels, 0 or more.

    Returns:
        (N,); 1 when both masks are empty, 0 when one is.

    Raises:
        ValueError: the shapes differ or are not (N,H,W).
    """
    pred, truth = _as_masks(pred, truth)
    return np.array([_surface_dice(p, t, tolerance) for p, t in zip(pred, truth, strict=True)], dtype=np.float64)


def _surface_dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: float) -> float:
    from scipy.ndimage import distance_transform_edt

    if not (pred.any() and truth.any()):
        return float(pred.any() == truth.any())
    either = pred | truth
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    lengths = [_contour(mask[box]) for mask in (pred, truth)]
    met = 0.0
    for own, other in (lengths, lengths[::-1]):
        met += float((own * (distance_transform_edt(other == 0) <= tolerance)).sum())
    return met / float(sum(length.sum() for length in lengths))


def _contour(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The length of the contour at each corner of pixels, (H+1,W+1)."""
    at = np.pad(mask, 1).astype(np.intp)
    return _CONTOUR[8 * at[:-1, :-1] + 4 * at[:-1, 1:] + 2 * at[1:, :-1] + at[1:, 1:]]


def _percentile_distance(pred: NDArray[np.bool_], truth: NDArray[np.bool_], if_one_empty: float) -> float:
    from scipy.ndimage import distance_transform_edt  # here: otherwise every process would load it at its start

    has_polyp = pred.any(), truth.any()
    if not all(has_polyp):
        return if_one_empty if any(has_polyp) else 0.0
    # Both boundaries lie inside the masks' common bounding box, so nothing outside it can change a distance.
    either = pred | truth
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    pred_edge, truth_edge = _boundary(pred[box]), _boundary(truth[box])
    to_truth = distance_transform_edt(~truth_edge)[pred_edge]
    to_pred = distance_transform_edt(~pred_edge)[truth_edge]
    return float(np.percentile(np.concatenate([to_truth, to_pred]), 95))


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _ratio(numerator: Counts, denominator: Counts, counts: Counts) -> Scores:
    both_empty = counts[:, :3].sum(axis=1) == 0
    score = np.divide(numerator, denominator, out=np.zeros(len(counts)), where=denominator > 0)
    return np.where(both_empty, 1.0, score)


def _as_masks(pred: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if pred.shape != truth.shape or pred.ndim != 3:
        raise ValueError(f"masks must both be (N,H,W); got {pred.shape} and {truth.shape}")
    return pred.astype(bool, copy=False), truth.astype(bool, copy=False)
