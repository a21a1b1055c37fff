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
from fedpolyp.experiment.findings import Analysis, Arm
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
    """One image that no hospital has."""

    kind: str  # 'best', 'median' or 'worst'
    source: str  # its unseen source; '' for the held-out set
    id: str
    image: str  # a data URI
    truth: str  # the outline as an SVG path, in fractions of the image's side times 100
    outlines: Mapping[str, tuple[str, ...]]  # by arm: one path, or those of several hospitals' models
    dice: Mapping[str, float]  # by arm


@dataclass(frozen=True)
class Gallery:
    """The cases, and why a set has none."""

    cases: tuple[Case, ...]
    absent: str = ""


def make_gallery(analysis: Analysis) -> Gallery:
    """The best, median and worst images by the mean Dice over all arms, with the first seed's outlines.

    First the held-out ones, then those of each unseen source.
    """
    if analysis.store is None:
        return Gallery((), "the store that the images came from is gone")
    cases, absent = list[Case](), list[str]()
    for source in ("", *analysis.partition.unseen):
        found = _cases(analysis, analysis.store, source)
        if isinstance(found, str):
            absent.append(found)
        else:
            cases += found
    return Gallery(tuple(cases), "; ".join(absent))


def _cases(analysis: Analysis, store: Store, source: str) -> list[Case] | str:
    """The cases of the held-out set, or of an unseen source; or why there are none."""
    ids = analysis.partition.unseen[source] if source else analysis.partition.heldout
    positions = store.positions(ids)
    shown_images, truths = store.images[positions], store.masks[positions]
    if not source:
        shown_images, truths = analysis.partition.heldout_of(store)
    masks, dices = {}, {}
    for arm in analysis.arms:
        run = arm.runs[0]
        try:
            predicted = run.predictions(source)
        except (OSError, FedpolypError):
            predicted = {}
        if not predicted or any(each.shape != truths.shape for each in predicted.values()):
            return f"{run.predictions_file(source).name} of {arm.label}/{arm.seeds[0]} cannot be used"
        masks[arm.label] = predicted
        of_set = f"unseen:{source}" if source else HELD_OUT
        dices[arm.label] = read_scores(arm.runs[:1]).where(kind=LAST, set=of_set).by_image(ids)
    there = np.asarray(truths.any(axis=(1, 2)))
    cases = []
    for kind, rows in choose(np.mean(list(dices.values()), axis=0), _EACH, there).items():
        for row in rows:
            outlines = {arm.label: _outlines(arm, masks[arm.label], row) for arm in analysis.arms}
            dice = {label: float(values[row]) for label, values in dices.items()}
            image = picture(shown_images[row], _SIDE)
            cases.append(Case(kind, source, ids[row], image, outline(truths[row]), outlines, dice))
    return cases


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
