"""Finds polyps in images with a saved model: no trainer, no optimizer, no run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.errors import FedpolypError
from fedpolyp.inference.about import THRESHOLD, About, read_about
from fedpolyp.inference.lesions import Lesion, lesions
from fedpolyp.runs import model_given

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A model's prediction in one image, at the image's own size."""

    probability: Field  # (H, W) in [0, 1]
    mask: Pixels  # (H, W) in {0, 1}
    lesions: tuple[Lesion, ...]  # the largest first

    @classmethod
    def of(cls, probability: Field, threshold: float) -> Self:
        """Cut `probability` at `threshold`: a pixel with at least this probability is polyp."""
        mask = (probability >= threshold).astype(np.uint8)
        return cls(probability, mask, lesions(mask, probability))

    @property
    def confidence(self) -> float:
        """Of the whole image, in [0.5, 1]: the mean over its pixels of the probability of the predicted class."""
        return float(np.maximum(self.probability, 1 - self.probability).mean())


class Predictor:
    """A saved model, ready for images of any size.

    An image is resized to the model's square as in training (by area). The probabilities are resized back to the
    image's own size, bilinearly, and then cut.
    """

    def __init__(self, model: Any, about: About | None, path: Path) -> None:
        """`model` is a Keras model from uint8 (N, S, S, 3) to (N, S, S, 1) in [0, 1]; see `load`."""
        self.model = model
        self.about = about
        self.path = path
        self.image_size = int(model.input_shape[1])
        self.threshold = THRESHOLD if about is None else about.threshold
        self.best_threshold = None if about is None else about.best_threshold  # chosen on validation
        self.temperature = None if about is None else about.temperature  # see fedpolyp.inference.calibration

    @property
    def introduction(self) -> str:
        """One line: the model's file, and what the model says of itself."""
        return f"{self.path}: {'it has no description' if self.about is None else self.about.sentence()}"

    @classmethod
    def load(cls, place: Path, kind: Literal["last", "best"] = "last") -> Self:
        """The model in a .keras file, or the last or best one of a run.

        Raises:
            UsageError: there is none.
            FedpolypError: it does not find polyps, or it is damaged.
        """
        path = model_given(place, kind)
        about = read_about(path)
        import fedpolyp.quiet_tensorflow  # noqa: F401

        # isort: split
        import keras

        try:
            model = keras.saving.load_model(path, compile=False)  # safe: a file that holds code is refused
        except Exception as error:  # Keras does not document what it raises
            why = " ".join(str(error).split())[:200]
            raise FedpolypError(f"{path} cannot be opened as a Keras model: {type(error).__name__}: {why}") from None
        shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
        side = shapes[0][1] if isinstance(shapes[0], tuple) and len(shapes[0]) == 4 else None
        if side is None or shapes != ((None, side, side, 3), (None, side, side, 1)):
            raise FedpolypError(
                f"{path} is no model of (N, S, S, 3) to (N, S, S, 1); it is of {shapes[0]} to {shapes[1]}"
            )
        if about is not None and about.image_size != side:
            raise FedpolypError(f"{path} is damaged: it says {about.image_size} pixels, and takes {side}")
        return cls(model, about, path)

    def probabilities(self, squares: Pixels, flips: bool = False) -> Field:
        """The probability of polyp at each pixel, (N, S, S) in [0, 1].

        Args:
            squares: (N, S, S, 3) uint8, RGB, at the model's size.
            flips: the mean over the image and its three mirror images (test-time augmentation).
        """
        ways = [(1, 1), (1, -1), (-1, 1), (-1, -1)] if flips else [(1, 1)]
        total = np.zeros(squares.shape[:3], np.float32)
        for down, across in ways:
            turned = np.ascontiguousarray(squares[:, ::down, ::across])
            total += np.asarray(self.model.predict_on_batch(turned))[:, ::down, ::across, 0]
        return total / np.float32(len(ways))

    def at_own_size(self, images: Sequence[Pixels], flips: bool = False) -> list[Field]:
        """The probability of polyp at each pixel of each image (H, W, 3) uint8, RGB, of any size: (H, W) each."""
        side = self.image_size
        squares = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
        found = self.probabilities(np.stack(squares).astype(np.uint8), flips)
        return [
            np.clip(cv2.resize(one, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)
            for one, image in zip(found, images, strict=True)
        ]

    def see(self, images: Sequence[Pixels], flips: bool = False) -> list[Seen]:
        """The prediction in each image (H, W, 3) uint8, RGB, of any size."""
        return [Seen.of(one, self.threshold) for one in self.at_own_size(images, flips)]
