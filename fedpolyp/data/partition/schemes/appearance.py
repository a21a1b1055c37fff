"""`appearance`: each hospital has images of one look, a cluster of colours and textures."""

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, redrawn

_SIDE = 64  # pixels at which images are looked at
_STEPS = 100  # of Lloyd's algorithm at most
_DRAWS = 10  # they differ in their first centres, and seldom end far apart


class Appearance(Scheme):
    """A cluster for each hospital; as the skew falls from 1 to 0, more and more images go to any hospital instead."""

    uses_skew = True

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        found = groups.means_of(appearance)
        points: NDArray[np.float64] = (found - found.mean(axis=0)) / np.maximum(found.std(axis=0), 1e-9)

        def draw() -> Rows:
            cluster = k_means(points, hospitals, rng)
            anywhere = rng.permutation(len(groups)) % hospitals
            return np.where(rng.random(len(groups)) < self.skew, cluster, anywhere)

        advice = "give a smaller --skew, fewer --hospitals or a smaller --min-images"
        return redrawn(draw, groups, hospitals, self.min_images, advice, _DRAWS)


def appearance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What an image, uint8 (S, S, 3) RGB, looks like, float64 (10,): its colours, and how coarse its texture is.

    Mean and spread of lightness and of both colours (CIELAB), and how strong its detail is at four scales.
    """
    import cv2

    small = cv2.resize(np.asarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float64)
    detail, left = [], lab[..., 0]
    for sigma in (0.7, 1.4, 2.8, 5.6):
        softer = np.asarray(cv2.GaussianBlur(left, (0, 0), sigma), np.float64)
        detail.append(np.log1p(np.abs(left - softer).mean()))
        left = softer
    return np.array([*lab.mean(axis=(0, 1)), *lab.std(axis=(0, 1)), *detail], np.float64)


def k_means(points: NDArray[np.float64], clusters: int, rng: np.random.Generator) -> Rows:
    """The cluster of each of `points` (N, K), intp (N,) in 0..clusters-1: Lloyd's algorithm from k-means++ centres.

    Clusters are numbered by the first coordinate of their centres. An empty one takes the farthest point.
    """
    centres: NDArray[np.float64] = points[rng.integers(len(points))][None]
    while len(centres) < clusters:
        nearest = _distances(points, centres).min(axis=1)
        odds = nearest / nearest.sum() if nearest.sum() > 0 else None
        centres = np.concatenate([centres, points[rng.choice(len(points), p=odds)][None]])
    cluster = np.full(len(points), -1)
    for _ in range(_STEPS):
        distance = _distances(points, centres)
        before, cluster = cluster, distance.argmin(axis=1)
        off = distance.min(axis=1)
        for empty in np.setdiff1d(np.arange(clusters), cluster):
            farthest = off.argmax()
            cluster[farthest], off[farthest] = empty, -1
        if (cluster == before).all():
            break
        for k in range(clusters):
            if (cluster == k).any():  # its only point may have been taken for an empty cluster
                centres[k] = points[cluster == k].mean(axis=0)
    order = np.argsort(centres[:, 0], kind="stable")
    return np.argsort(order)[cluster]


def _distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances, (N, clusters); summed coordinate by coordinate, so that no thread can change a bit."""
    squared = np.zeros((len(points), len(centres)))
    for axis in range(points.shape[1]):
        squared += (points[:, axis, None] - centres[:, axis]) ** 2
    return squared
