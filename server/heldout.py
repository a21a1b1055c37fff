"""Scoring the global model on the held-out set, which no hospital has ever seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.config import Config
from fedpolyp.data.store import Store
from fedpolyp.model.arrays import Arrays
from fedpolyp.training import Images, shared_trainer


@dataclass(frozen=True)
class HeldOut:
    """The held-out images, and the trainer that scores them."""

    ids: tuple[str, ...]
    images: Images
    masks: Images
    config: Config

    @classmethod
    def of(cls, store: Store, ids: tuple[str, ...], config: Config) -> "HeldOut":
        """The images of `ids` in `store`."""
        positions = store.positions(ids)
        return cls(ids, store.images[positions], store.masks[positions], config)

    def score(self, arrays: Arrays) -> dict[str, float]:
        """Mean per-image Dice and IoU, and mean loss, of the model with weights `arrays`."""
        return shared_trainer(self.config).evaluate(arrays, self.images, self.masks).means()

    def predict(self, arrays: Arrays) -> Images:
        """The masks (N, S, S) in {0, 1} that the model with weights `arrays` sees."""
        return shared_trainer(self.config).predict(arrays, self.images)

    def compare(self, predicted: Images) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts (N, 4) and HD95 (N,) of masks (N, S, S)."""
        return metrics.count_pixels(predicted, self.masks), metrics.hd95(predicted, self.masks)
