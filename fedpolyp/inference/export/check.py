"""Checks that an export is the model: both get the same images."""

from dataclasses import dataclass

import numpy as np

from fedpolyp.data import phantom
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels

# The largest difference between two probabilities that may be rounding. For all kinds but one it was at most 5e-6, and
# 5e-5 for ResNet50V2 with random statistics. Normalization layers with another epsilon make it 1.5e-3 or more.
BOUND = 1e-4
# Highest minus lowest probability. If it is smaller, the model predicts the same everywhere, and so might another
# model.
_TELLING = 0.05
_HELD_OUT, _DRAWN, _NOISE = 8, 4, 4


@dataclass(frozen=True, eq=False)
class Trial:
    """The images that both get."""

    squares: Pixels  # (N, S, S, 3)
    of: str  # what they are


@dataclass(frozen=True)
class Check:
    """The difference between an export and the model."""

    images: int
    of: str
    difference: float  # the largest between two probabilities
    flipped: int  # pixels that only one of them takes for polyp
    low: float  # the lowest probability
    high: float

    @property
    def passed(self) -> bool:
        """Whether the export is the model; it is not if a value is not finite."""
        return self.difference <= BOUND

    @property
    def telling(self) -> bool:
        """Whether the model's predictions vary so much in these images that another model would have been noticed."""
        return self.high - self.low >= _TELLING


def trial(subject: Subject) -> Trial:
    """Up to eight of the run's held-out images if they are here, four phantom frames, and four of noise.

    The same every time.
    """
    side, store, found = subject.predictor.image_size, subject.store, []
    said = [f"{_DRAWN} phantom frames", f"{_NOISE} of noise"]
    if store is not None and subject.analysis is not None:
        held_out, _ = subject.analysis.partition.heldout_of(store)
        found.append(np.asarray(held_out[:_HELD_OUT]))
        said.insert(0, f"{len(found[0])} held-out images of its run")
    found.append(phantom.draw(_DRAWN, side, _DRAWN, 0)[0])
    found.append(np.random.default_rng(0).integers(0, 256, (_NOISE, side, side, 3), np.uint8))
    return Trial(np.concatenate(found), ", ".join(said))


def compare(shown: Trial, expected: Field, found: Field, threshold: float) -> Check:
    """The difference of `found` from `expected`, both (N, S, S); infinite if shapes differ or values are not finite."""
    alike = found.shape == expected.shape and bool(np.isfinite(found).all() and np.isfinite(expected).all())
    return Check(
        images=len(shown.squares),
        of=shown.of,
        difference=float(np.abs(found.astype(np.float64) - expected).max()) if alike else float("inf"),
        flipped=int(((found >= threshold) != (expected >= threshold)).sum()) if alike else expected.size,
        low=float(expected.min()),
        high=float(expected.max()),
    )
