"""EfficientNet-Lite0, as it is built here and with its head on, sees in photographs what is on them, as in PyTorch.

`scripts/encoder/torch_reference.py` made the numbers of PyTorch.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from fedpolyp.config import Config, load
from fedpolyp.model import efficientnet_lite
from fedpolyp.model.blocks import Blocks
from fedpolyp.model.registry import ENCODER
from tests.model.photographs import RIGHT, photographs

TORCH = json.loads((Path(__file__).parent / "lite0_torch.json").read_text())


def config() -> Config:
    return load(overrides={"data.image_size": 224, "model.encoder": "efficientnet-lite0"})


@lru_cache(maxsize=1)
def seen() -> tuple[list[Any], Any]:
    """The features at each stride, and the logits of the thousand classes, for each photograph."""
    blocks = Blocks(config(), for_training=False)
    image = blocks.image()
    features = efficientnet_lite.features(blocks, image, efficientnet_lite.STAGES)
    x = efficientnet_lite._Layers(blocks).convolution(features[-1], 1280, 1, 1, "head")
    logits = layers.Dense(1000, name=f"{ENCODER}classes")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, [*features, logits])
    weights = efficientnet_lite.pretrained(config())
    assert {variable.path for variable in model.weights} == set(weights)  # the whole file is used
    for variable in model.weights:
        variable.assign(weights[variable.path])
    *maps, classes = [np.asarray(output) for output in model(photographs(), training=False)]
    return maps, classes


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=[Path(name).stem for name in RIGHT])
def test_the_most_likely_class_is_one_that_the_photograph_shows(number: int) -> None:
    logits = seen()[1][number]
    right = list(RIGHT.values())[number]
    assert int(logits.argmax()) in right
    likelihood = np.exp(logits - logits.max())
    assert likelihood[list(right)].sum() / likelihood.sum() > 0.2


def test_no_other_convention_fits_the_moving_statistics_better() -> None:
    off = {name: values["mean"] + values["variance"] for name, values in TORCH["statistics_off"].items()}
    assert min(off, key=off.__getitem__) == "same padding, epsilon 1e-3, (x - 127) / 128" and len(off) == 6


def test_the_logits_are_those_of_torch() -> None:
    logits = seen()[1]
    for row, classes, expected in zip(logits, TORCH["classes"], TORCH["logits"], strict=True):
        assert list(row.argsort()[::-1][:5]) == classes
        assert np.allclose(row[classes], expected, atol=2e-3)


def test_the_features_at_every_stride_are_those_of_torch() -> None:
    maps = seen()[0]
    assert list(TORCH["features"]) == ["2", "4", "8", "16", "32"]
    for features, expected in zip(maps, TORCH["features"].values(), strict=True):
        flat = features.reshape(len(RIGHT), -1)
        places = np.linspace(0, flat.shape[1] - 1, len(expected["values"][0])).astype(int)
        spread = float(flat.std())
        assert np.allclose(flat[:, places], expected["values"], atol=2e-3 * spread, rtol=0)
        assert np.allclose(np.linalg.norm(flat.astype(np.float64), axis=1), expected["norm"], rtol=1e-4)
