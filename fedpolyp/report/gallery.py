"""Held-out images with every arm's outline, and each hospital's thumbnails, as parts of a page that needs no other."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.analysis import Analysis, Arm
from fedpolyp.experiment.scores import HELD_OUT, LAST, read_scores
from fedpolyp.report.hospitals import spread
from fedpolyp.report.predictions import choose

Image = NDArray[np.uint8]

_EACH = 3  # cases of each kind
_SIDE = 320  # pixels of a case at most
_THUMBNAIL = 96  # pixels
_MODELS_DRAWN = 8  # of the local arm's hospitals
_FINER = 4  # outlines are found on a grid this many times as fine as the mask's


@dataclass(frozen=True)
class Case:
    """One held-out image."""

    kind: str  # 'best', 'median' or 'worst'
    id: str
    image: str  # a data URI
    truth: str  # the outline as an SVG path, in fractions of the image's side times 100
    outlines: Mapping[str, tuple[str, ...]]  # by arm: one path, or those of several hospitals' models
    dice: Mapping[str, float]  # by arm


@dataclass(frozen=True)
class Gallery:
    """The cases, or the reason why there are none."""

    cases: tuple[Case, ...]
    absent: str = ""


def make_gallery(analysis: Analysis) -> Gallery:
    """The best, median and worst held-out images by the mean Dice over all arms, with the first seed's outlines."""
    store, ids = analysis.store, analysis.partition.heldout
    if store is None:
        return Gallery((), "the store that the images came from is gone")
    images, truths = analysis.partition.heldout_of(store)
    masks = {}
    for arm in analysis.arms:
        try:
            predicted = arm.runs[0].predictions()
        except (OSError, FedpolypError):
            predicted = {}
        if not predicted or any(each.shape != truths.shape for each in predicted.values()):
            return Gallery((), f"{arm.runs[0].predictions_file.name} of {arm.label}/{arm.seeds[0]} cannot be used")
        masks[arm.label] = predicted
    dices = {}
    for arm in analysis.arms:
        scores = read_scores(arm.runs[:1]).where(kind=LAST, set=HELD_OUT)
        dices[arm.label] = scores.by_image(ids)
    there = np.asarray(truths.any(axis=(1, 2)))
    shown = choose(np.mean(list(dices.values()), axis=0), _EACH, there)
    cases = []
    for kind, rows in shown.items():
        for row in rows:
            image, truth = images[row], truths[row]
            outlines = {arm.label: _outlines(arm, masks[arm.label], row) for arm in analysis.arms}
            dice = {label: float(values[row]) for label, values in dices.items()}
            cases.append(Case(kind, ids[row], picture(image, _SIDE), outline(truth), outlines, dice))
    return Gallery(tuple(cases))


def thumbnails(store: Store, own: HospitalImages, count: int = 4) -> list[str]:
    """Up to `count` of a hospital's training images as data URIs, from the smallest lesion to the largest."""
    chosen = spread(store, own.train, count)
    positions = store.positions(chosen)
    images, _ = own.seen(store.images[positions], store.masks[positions], chosen, training=True)
    return [picture(image, _THUMBNAIL) for image in images]


def picture(image: Image, side: int) -> str:
    """A data URI of `image` (S, S, 3) uint8 RGB, at most `side` pixels wide."""
    if image.shape[0] > side:
        image = np.asarray(cv2.resize(np.asarray(image), (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    bgr = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def outline(mask: Image) -> str:
    """The border of `mask` (S, S) in {0, 1} as an SVG path in a box of 100 by 100; '' when there is none."""
    finer = mask.shape[0] * _FINER
    smooth = cv2.resize(np.asarray(mask, np.float32), (finer, finer), interpolation=cv2.INTER_CUBIC) > 0.5
    found, _ = cv2.findContours(smooth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in found:
        points = (cv2.approxPolyDP(contour, 1.0, True)[:, 0, :] + 0.5) * (100 / finer)
        if len(points) > 1:
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points.tolist()) + "Z")
    return "".join(parts)


def _outlines(arm: Arm, predicted: Mapping[str, Image], row: int) -> tuple[str, ...]:
    names = sorted(predicted)
    steps = np.linspace(0, len(names) - 1, min(_MODELS_DRAWN, len(names)))
    return tuple(outline(predicted[names[round(step)]][row]) for step in steps)
