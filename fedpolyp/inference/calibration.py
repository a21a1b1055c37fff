"""Calibration: of the pixels to which a model gives 0.7, seven of ten should be polyp.

It is measured as in M. Naeini, G. Cooper, M. Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian
Binning, AAAI 2015. It is corrected as in C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017: one
temperature for all logits.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics

BINS = 10
_THRESHOLDS = tuple(step / 20 for step in range(1, 20))
_LEAST = np.float32(1e-6)  # so that a logit is finite


@dataclass
class Reliability:
    """Pixels by their predicted probability, in ten bins of equal width."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    given: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # sum of the probabilities
    polyp: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))  # of the pixels

    def add(self, probability: NDArray[np.float32], truth: NDArray[Any]) -> None:
        """Count the pixels of an image, both (H, W), or of images, both (N, H, W)."""
        flat, there = probability.ravel().astype(np.float64), truth.ravel() != 0
        place = np.minimum((flat * BINS).astype(np.intp), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.given += np.bincount(place, flat, minlength=BINS)
        self.polyp += np.bincount(place[there], minlength=BINS)

    def put(self, place: int, given: float, polyp: float, pixels: int) -> None:
        """Count `pixels` of the bin `place`, with mean probability `given`, of which the share `polyp` is polyp."""
        self.pixels[place] += pixels
        self.given[place] += given * pixels
        self.polyp[place] += round(polyp * pixels)

    def curve(self) -> list[tuple[float, float, int]]:
        """(mean probability, share of polyp pixels, pixels) of each bin with pixels."""
        return [
            (float(given / count), float(polyp / count), int(count))
            for given, polyp, count in zip(self.given, self.polyp, self.pixels, strict=True)
            if count
        ]

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]: the mean over pixels of the error of their bin."""
        total = int(self.pixels.sum())
        return sum(count * abs(given - share) for given, share, count in self.curve()) / total if total else 0.0


@dataclass(frozen=True)
class Fitted:
    """A model's calibration on validation images."""

    temperature: float  # logits are divided by it; above 1 if the model is overconfident
    threshold: float  # of the raw probability, with the highest mean Dice on these images


def fitted(probabilities: NDArray[np.float32], masks: NDArray[Any]) -> Fitted:
    """The temperature and the threshold that suit these images best; `probabilities` and `masks` are (N, H, W).

    Among equally good thresholds in steps of 0.05, the one nearest to a half.

    Raises:
        ValueError: there are no images.
    """
    if not len(masks):
        raise ValueError("there are no images to fit to")
    from scipy.optimize import minimize_scalar

    logits, there = _logits(probabilities), np.asarray(masks) != 0

    def loss(log_temperature: float) -> float:
        scaled = logits * np.float32(np.exp(-log_temperature))
        return float((np.logaddexp(0, scaled) - scaled * there).mean(dtype=np.float64))

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-3})

    def dice(threshold: float) -> float:
        counts = metrics.count_pixels(probabilities >= threshold, there)
        return float(metrics.dice(counts)[metrics.with_polyp(counts)].mean())

    thresholds = sorted(_THRESHOLDS, key=lambda threshold: (abs(threshold - 0.5), threshold))
    return Fitted(round(float(np.exp(best.x)), 4), max(thresholds, key=dice))


def calibrated(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """`probabilities` with their logits divided by `temperature`; a half stays a half."""
    return np.asarray(1 / (1 + np.exp(-_logits(probabilities) / np.float32(temperature))), np.float32)


def _logits(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    sure = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(sure) - np.log1p(-sure), np.float32)
