"""Are probabilities true? Of the pixels to which a model gives 0.7, seven of ten should be polyp.

M. Naeini, G. Cooper, M. Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass
class Reliability:
    """Pixels by the probability that was given to them, in ten bins of equal width."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    given: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # sum of the probabilities
    polyp: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))  # of the pixels

    def add(self, probability: NDArray[np.float32], truth: NDArray[Any]) -> None:
        """Count the pixels of an image, both (H, W)."""
        flat, there = probability.ravel().astype(np.float64), truth.ravel() != 0
        place = np.minimum((flat * BINS).astype(np.intp), BINS - 1)
        self.pixels += np.bincount(place, minlength=BINS)
        self.given += np.bincount(place, flat, minlength=BINS)
        self.polyp += np.bincount(place[there], minlength=BINS)

    def curve(self) -> list[tuple[float, float, int]]:
        """(mean probability, share that is polyp, pixels) of each bin that has any."""
        return [
            (float(given / count), float(polyp / count), int(count))
            for given, polyp, count in zip(self.given, self.polyp, self.pixels, strict=True)
            if count
        ]

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]: the mean over pixels of how far their bin is off."""
        total = int(self.pixels.sum())
        return sum(count * abs(given - share) for given, share, count in self.curve()) / total if total else 0.0
