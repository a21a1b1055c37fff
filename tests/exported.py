"""A model that is exported in a second, and what its Predictor sees."""

from pathlib import Path

import keras
import numpy as np

from fedpolyp.inference.export.export import export
from fedpolyp.inference.export.finding import make
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels

SIDE = 32


def red_model(path: Path, side: int = SIDE) -> Path:
    """A model that takes what is red for polyp; it says nothing of itself, and asks for uint8."""
    image = keras.Input((side, side, 3), dtype="uint8")
    layer = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    model = keras.Model(image, layer(keras.layers.Rescaling(1 / 255)(image)))
    kernel = np.random.default_rng(0).normal(0, 0.3, (3, 3, 3, 1))
    kernel[1, 1, :, 0] = 6, -3, -3
    layer.set_weights([kernel, np.array([-1.0])])
    model.save(path)
    return path


def exported(model: Path, to: str, out: Path) -> Subject:
    """Export `model` into `out`."""
    subject = Subject.load(model)
    export(subject, to, make(to), out)
    return subject


def images(count: int) -> Pixels:
    """Images that no check is made with."""
    return np.random.default_rng(7).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def close(found: object, expected: Field) -> None:
    """Whether `found` is what the Predictor sees."""
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    assert expected.max() - expected.min() > 0.5
