"""What an update passes through at a hospital before it leaves: a chain of named transforms, empty unless asked for."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedpolyp.algorithms.base import MODEL
from fedpolyp.config import Config
from fedpolyp.model.arrays import Arrays, is_statistic

Changes = Mapping[str, Arrays]  # an update, by group
_LYING = 101  # a stream of random numbers of its own
SCALE = 10.0


class Transform(Protocol):
    """One link of the chain."""

    @property
    def name(self) -> str:
        """By which it is known."""

    def __call__(self, changes: Changes, round: int) -> Changes:
        """What becomes of an update of `round`."""


@dataclass(frozen=True)
class Lie:
    """What a lying hospital of a simulation makes of its update: of the trainable arrays, which move the model.

    'sign-flip' is its negative, 'scale' ten times it, 'noise' Gaussian noise of each array's own size.
    """

    how: str
    hospital: str
    seed: int
    name: str = "lie"

    def __call__(self, changes: Changes, round: int) -> Changes:
        """See `Transform`."""
        rng = np.random.default_rng([self.seed, _LYING, round, zlib.crc32(self.hospital.encode())])
        model = {
            name: change if is_statistic(name) else self._false(change, rng) for name, change in changes[MODEL].items()
        }
        return {**changes, MODEL: model}

    def _false(self, change: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.how == "sign-flip":
            return -change
        if self.how == "scale":
            return (SCALE * change).astype(change.dtype)
        size = float(np.sqrt(np.mean(np.square(change, dtype=np.float64))))
        return rng.normal(0.0, size, change.shape).astype(change.dtype)


def chain(config: Config, hospital: str) -> Sequence[Transform]:
    """The transforms of `hospital`, in their order."""
    lies = hospital in config.federation.lying and config.federation.lie != "label-flip"
    return [Lie(config.federation.lie, hospital, config.seed)] if lies else []


def inverts_masks(config: Config, hospital: str) -> bool:
    """Whether `hospital` lies by training on inverted masks; where nothing is sent, there is nobody to lie to."""
    return config.federated and hospital in config.federation.lying and config.federation.lie == "label-flip"
