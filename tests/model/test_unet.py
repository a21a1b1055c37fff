"""The U-Net has the promised shape, size and precision, and its first weights depend on the seed alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fedpolyp.config import Config, load
from fedpolyp.model.arrays import Arrays, is_statistic, read
from fedpolyp.model.blocks import LOGITS
from fedpolyp.model.unet import build


def tiny(**overrides: Any) -> Config:
    settings = {"data.image_size": 32, "model.base_filters": 2}
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


def weights(model: keras.Model) -> Arrays:
    return read({variable.path: variable for variable in model.weights})


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def images(count: int, size: int = 32) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [32, 48])
def test_a_probability_comes_out_for_every_pixel(size: int) -> None:
    model = build(tiny(data__image_size=size))
    assert model.output_shape == (None, size, size, 1)
    probability = model.predict(images(3, size), verbose=0)
    assert probability.shape == (3, size, size, 1) and probability.dtype == np.float32
    assert 0 < probability.min() < probability.max() < 1


def test_there_are_four_encoder_blocks_a_bridge_and_four_decoder_blocks() -> None:
    model = build(Config())
    kinds = Counter(type(layer).__name__ for layer in model.layers)
    assert (kinds["MaxPooling2D"], kinds["Conv2DTranspose"], kinds["Concatenate"]) == (4, 4, 4)
    assert kinds["Conv2D"] == 2 * 9 + 1
    filters = [layer.filters for layer in model.layers if type(layer) is keras.layers.Conv2D]
    down = [16, 16, 32, 32, 64, 64, 128, 128]
    assert filters == [*down, 256, 256, *reversed(down), 1]
    assert model.get_layer("encoder4_pool").output.shape == (None, 8, 8, 128)


@pytest.mark.parametrize(
    ("normalization", "trainable", "statistics"),
    [("batch", 1_942_577, 2_944), ("group", 1_942_577, 0), ("none", 1_941_105, 0)],
)
def test_the_default_size_is_1_94_million_parameters(normalization: str, trainable: int, statistics: int) -> None:
    model = build(load(overrides={"model.normalization": normalization}))
    sizes = {name: array.size for name, array in weights(model).items()}
    assert sum(size for name, size in sizes.items() if not is_statistic(name)) == trainable
    assert sum(size for name, size in sizes.items() if is_statistic(name)) == statistics
    assert model.count_params() == trainable + statistics


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_first_weights_depend_on_the_seed_alone(normalization: str) -> None:
    config = tiny(model__normalization=normalization, seed=7)
    first = weights(build(config))
    keras.utils.set_random_seed(99)
    others = {"data.image_size": 64, "training.batch_size": 3, "hospitals.count": 2, "runtime.actors": 1}
    for overrides in ({}, others, {"training.precision": "mixed_bfloat16"}):
        plain = {"data.image_size": 32, "model.base_filters": 2, "model.normalization": normalization, "seed": 7}
        assert same(first, weights(build(load(overrides=plain | overrides))))
    kernels = [name for name in first if name.endswith("kernel")]
    another = weights(build(tiny(model__normalization=normalization, seed=8)))
    assert not any(np.array_equal(first[name], another[name]) for name in kernels)


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_model_that_trains_has_the_names_and_weights_of_the_one_that_is_saved(
    normalization: str, precision: str
) -> None:
    config = tiny(model__normalization=normalization, training__precision=precision)
    training = build(config, for_training=True)
    assert same(weights(build(config)), weights(training))
    biased = [layer for layer in training.layers if getattr(layer, "use_bias", False) and layer.name != LOGITS]
    assert all(type(layer).__module__ == "fedpolyp.model.bias" for layer in biased) == (precision != "float32")


def test_no_two_layers_start_alike() -> None:
    first = weights(build(tiny(model__dropout=(0.1, 0.3))))
    starts = [tuple(array.ravel()[:4]) for name, array in first.items() if name.endswith("kernel")]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize(("normalization", "has"), [("batch", True), ("group", False), ("none", False)])
def test_only_batch_normalization_has_moving_statistics(normalization: str, has: bool) -> None:
    model = build(tiny(model__normalization=normalization))
    assert {variable.path for variable in model.non_trainable_weights} == {n for n in weights(model) if is_statistic(n)}
    assert bool(model.non_trainable_weights) == has


def test_dropout_grows_from_the_first_encoder_block_to_the_bridge() -> None:
    rates = {layer.name: layer.rate for layer in build(load(preset="seed")).layers if "dropout" in layer.name}
    expected = {"encoder1": 0.1, "encoder2": 0.15, "encoder3": 0.2, "encoder4": 0.25, "bridge": 0.3}
    expected |= {"decoder4": 0.25, "decoder3": 0.2, "decoder2": 0.15, "decoder1": 0.1}
    assert rates == pytest.approx({f"{block}_dropout": rate for block, rate in expected.items()})
    assert not any("dropout" in layer.name for layer in build(tiny()).layers)


def test_mixed_precision_computes_in_bfloat16_but_keeps_weights_and_logits_in_float32() -> None:
    model = build(tiny(training__precision="mixed_bfloat16"))
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.get_layer("bridge_conv1").compute_dtype == "bfloat16"
    assert model.get_layer("encoder1_conv1").output.dtype == "bfloat16"
    assert model.get_layer(LOGITS).output.dtype == model.output.dtype == "float32"


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_a_saved_model_loads_and_predicts_the_same(tmp_path: Path, normalization: str) -> None:
    model = build(tiny(model__normalization=normalization, model__dropout=(0.1, 0.3)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert same(weights(model), weights(loaded))
    assert np.array_equal(model.predict(images(2), verbose=0), loaded.predict(images(2), verbose=0))


def test_groups_divide_any_number_of_filters() -> None:
    model = build(tiny(model__normalization="group", model__base_filters=3))
    assert model.output_shape == (None, 32, 32, 1)
