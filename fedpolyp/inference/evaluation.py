"""Scores a model on images with masks: at the model's size, as in a comparison, and at the images' own size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.data.ingest import Original
from fedpolyp.data.store import Store
from fedpolyp.experiment.statistics import Estimate, estimate
from fedpolyp.inference.calibration import Reliability, calibrated
from fedpolyp.inference.corruption import KINDS, SEVERITIES, corrupted
from fedpolyp.inference.detection import Detection, detect
from fedpolyp.inference.predictor import Pixels, Predictor

_BATCH = 16  # images


@dataclass(frozen=True, eq=False)
class AtASize:
    """One row for each image."""

    counts: metrics.Counts  # (N, 4) pixels: tp, fp, fn, tn
    hd95: metrics.Scores  # (N,) pixels
    hd95_fraction: metrics.Scores  # (N,) of the image's diagonal
    surface: metrics.Scores  # (N,) surface Dice within `metrics.SURFACE_TOLERANCE`


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's scores on images with masks."""

    ids: tuple[str, ...]
    groups: NDArray[np.intp]  # (N,) images with equal numbers are near-duplicates
    square: AtASize  # at the model's size
    own: AtASize  # at each image's own size
    detections: tuple[Detection, ...]  # at each image's own size
    reliability: Reliability  # at the model's size
    calibrated: Reliability | None  # the same with the model's temperature; None if it has none

    def mean(self, at: AtASize, score: metrics.Scores) -> Estimate | None:
        """The mean of a score over the images with a polyp, with its interval of 95 % over images; None without any."""
        if not self.any_polyp:
            return None
        there = metrics.with_polyp(at.counts)
        return estimate(score[None, there], self.groups[there])

    @property
    def any_polyp(self) -> bool:
        """Whether any image has a polyp in its true mask: otherwise there is no mean over such images."""
        return bool((self.own.counts[:, [0, 2]] > 0).any())

    @property
    def sensitivity(self) -> float | None:
        """The share of all lesions that are found; None if there are none."""
        lesions = sum(one.lesions for one in self.detections)
        return sum(one.found for one in self.detections) / lesions if lesions else None

    @property
    def false_per_image(self) -> float:
        """False predicted lesions for each image."""
        return sum(one.false for one in self.detections) / len(self.detections)


def evaluate(
    predictor: Predictor, store: Store, originals: Iterable[Original], ids: Sequence[str], threshold: float, flips: bool
) -> Evaluation:
    """Score a model on the images `ids` of `store`, which has the model's size; `originals` are the same images.

    Raises:
        ValueError: the originals are not these images.
    """
    rows = store.positions(ids)
    masks = np.asarray(store.masks[rows])
    cut, reliability = np.zeros(masks.shape, np.uint8), Reliability()
    temperature = predictor.temperature
    warmed = None if temperature is None else Reliability()
    for first in range(0, len(ids), _BATCH):
        part = slice(first, first + _BATCH)
        given = predictor.probabilities(np.asarray(store.images[rows[part]]), flips)
        cut[part] = given >= threshold
        reliability.add(given, masks[part])
        if warmed is not None and temperature is not None:
            warmed.add(calibrated(given, temperature), masks[part])
    found: dict[str, tuple[metrics.Counts, float, float, float, Detection]] = {}
    for original in originals:
        (probability,) = predictor.at_own_size([original.image], flips)
        predicted = (probability >= threshold).astype(np.uint8)
        counts = metrics.count_pixels(predicted[None], original.lesion[None])
        fraction = float(metrics.hd95(predicted[None], original.lesion[None])[0])
        diagonal = float(np.hypot(*original.lesion.shape))
        surface = _surface(predicted[None], original.lesion[None])[0]
        found[original.id] = counts[0], fraction * diagonal, fraction, surface, detect(predicted, original.lesion)
    if found.keys() != set(ids):
        raise ValueError(f"{len(found)} originals are not the {len(ids)} images")
    own = [found[id] for id in ids]
    fractions = metrics.hd95(cut, masks)
    return Evaluation(
        tuple(ids),
        np.array([store.records[row].group for row in rows.tolist()], np.intp),
        AtASize(
            metrics.count_pixels(cut, masks),
            fractions * np.hypot(*masks.shape[1:]),
            fractions,
            _surface(cut, masks),
        ),
        AtASize(np.stack([one[0] for one in own]), *(np.array([one[place] for one in own]) for place in (1, 2, 3))),
        tuple(one[4] for one in own),
        reliability,
        warmed,
    )


def _surface(cut: NDArray[np.uint8], masks: NDArray[np.uint8]) -> metrics.Scores:
    return metrics.surface_dice(cut, masks, metrics.SURFACE_TOLERANCE * float(np.hypot(*masks.shape[1:])))


def robustness(predictor: Predictor, images: Pixels, masks: Pixels, threshold: float) -> dict[str, tuple[float, ...]]:
    """The mean Dice, over the images with a polyp, of images made worse: by kind, for each severity.

    `images` (N, S, S, 3) and `masks` (N, S, S) have the model's size.
    """
    found = {}
    for kind in KINDS:
        means = []
        for severity in SEVERITIES:
            worse = corrupted(images, kind, severity)
            cut = [predictor.probabilities(worse[at : at + _BATCH]) >= threshold for at in range(0, len(worse), _BATCH)]
            counts = metrics.count_pixels(np.concatenate(cut), masks)
            means.append(float(metrics.dice(counts)[metrics.with_polyp(counts)].mean()))
        found[kind] = tuple(means)
    return found
