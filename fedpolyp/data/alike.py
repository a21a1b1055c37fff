"""Finds images that show the same scene: candidates by their thumbnails, confirmed by matching details.

Thumbnails alone are not enough: of Kvasir-SEG's pairs with a correlation above 0.96 one is false, and there are true
pairs down to 0.85. A pair is confirmed if about a dozen details (SIFT) of one image are found in the other under one
shift, rotation and scale.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SIDE = 256  # pixels of the images in which details are looked for
CONFIRMED = 8  # matching points: of Kvasir-SEG's candidates the three with 7 are true on sight, one of two with 6
_THUMBNAIL = 16  # pixels
_CANDIDATE = 0.8  # correlation of thumbnails
_NEIGHBOURS = 8  # most similar images that are compared with each image
_JUDGED = 0.96  # an unconfirmed pair above this is shown, to be judged by eye
_SMALL = 64  # pixels: size at which two images are compared pixel by pixel
_SAME = 3.0  # of 255, mean difference below which they are the same
_FLAT = 8.0  # of 255, standard deviation below which an image has nothing to compare
_DETAILS = 500  # of an image, at most
_PLACE = 8  # pixels: details nearer to each other count once
_RATIO = 0.8  # Lowe's ratio of the distances to the nearest and to the second match
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Looks:
    """What is compared of an image."""

    thumbnail: NDArray[np.uint8]  # (16, 16) grey
    small: NDArray[np.uint8]  # (64, 64) grey
    places: NDArray[np.float32]  # (K, 2), x and y of its details in an image of 256 pixels
    details: NDArray[np.uint8]  # (K, 128)

    @classmethod
    def of(cls, image: Image) -> "Looks":
        """The looks of `image`, uint8 (256, 256, 3) RGB."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        points, details = cv2.SIFT.create(_DETAILS, contrastThreshold=0.02).detectAndCompute(grey, _tissue(image))
        places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
        found = np.zeros((0, 128), np.uint8) if details is None else np.asarray(details).round().astype(np.uint8)
        thumbnail, small = (
            np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            for side in (_THUMBNAIL, _SMALL)
        )
        return cls(thumbnail, small, places, found)


def _tissue(image: Image) -> NDArray[np.uint8]:
    """255 where details may be taken: not at the border, and not where it is white, as text and highlights are."""
    high, low = image.max(2), image.min(2)
    border = cv2.dilate((high <= 40).astype(np.uint8), np.ones((15, 15), np.uint8))
    white = cv2.dilate(((high > 90) & (cv2.subtract(high, low) < 40)).astype(np.uint8), np.ones((7, 7), np.uint8))
    return np.asarray(255 * (1 - cv2.max(border, white)), np.uint8)


@dataclass(frozen=True)
class Alike:
    """Two similar images, by their rows."""

    first: int
    second: int
    correlation: float  # of thumbnails
    places: int  # matching points
    same: bool  # pixel by pixel, except for small differences

    @property
    def confirmed(self) -> bool:
        """Whether they show the same scene; otherwise somebody has to look."""
        return self.same or self.places >= CONFIRMED


def alike(looks: Sequence[Looks]) -> list[Alike]:
    """The pairs of images that show the same scene, or may do so; the surest first."""
    candidates = list(_candidates(looks))
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda pair: _compare(looks, *pair), candidates)
    pairs = [pair for pair in found if pair.confirmed or pair.correlation > _JUDGED]
    return sorted(pairs, key=lambda pair: (not pair.confirmed, -pair.places, -pair.correlation))


def _candidates(looks: Sequence[Looks]) -> Iterator[tuple[int, int, float]]:
    thumbnails = np.array([one.thumbnail for one in looks], np.float64).reshape(len(looks), _THUMBNAIL**2)
    centred = thumbnails - thumbnails.mean(1, keepdims=True)
    norms = np.sqrt((centred**2).sum(1, keepdims=True))
    normed = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(looks), _CHUNK):
        correlations = normed[start : start + _CHUNK] @ normed.T
        for row, own in enumerate(correlations, start):
            own[row] = -1
            near = np.argsort(-own, kind="stable")[:_NEIGHBOURS]
            for other in {*near[own[near] > _CANDIDATE].tolist(), *np.flatnonzero(own > _JUDGED).tolist()}:
                found[min(row, other), max(row, other)] = float(own[other])
    yield from ((first, second, correlation) for (first, second), correlation in sorted(found.items()))


def _compare(looks: Sequence[Looks], first: int, second: int, correlation: float) -> Alike:
    one, other = looks[first], looks[second]
    difference = np.abs(one.small.astype(np.int16) - other.small).mean()
    same = bool(difference < _SAME and min(one.small.std(), other.small.std()) > _FLAT)
    return Alike(first, second, correlation, _common_places(one, other), same)


def _common_places(one: Looks, other: Looks) -> int:
    """How many details of one image match the other under one shift, rotation and scale."""
    if min(len(one.details), len(other.details)) < CONFIRMED:
        return 0
    there, back = one.details.astype(np.float32), other.details.astype(np.float32)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    two = matcher.knnMatch(there, back, k=2)
    best = np.array([near[0].trainIdx for near in two])
    distances = np.array([[match.distance for match in near] for near in two])
    home = np.array([match.trainIdx for match in matcher.match(back, there)])
    taken = (distances[:, 0] < _RATIO * distances[:, 1]) & (home[best] == np.arange(len(best)))
    if taken.sum() < CONFIRMED:
        return 0
    here, where = one.places[taken], other.places[best[taken]]
    cv2.setRNGSeed(0)
    matrix, fit = cv2.estimateAffinePartial2D(here, where, method=cv2.RANSAC, ransacReprojThreshold=4)
    if matrix is None or not 0.4 < float(np.hypot(matrix[0, 0], matrix[1, 0])) < 2.5:
        return 0
    fitting = fit.ravel() > 0
    return min(len(np.unique(place[fitting] // _PLACE, axis=0)) for place in (here, where))
