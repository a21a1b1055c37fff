"""The U-Net on EfficientNet-Lite0 has the promised size, names, precision and first weights."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fedpolyp.config import Config, load
from fedpolyp.errors import UsageError
from fedpolyp.model import registry
from fedpolyp.model.arrays import Arrays, is_statistic, read
from fedpolyp.model.blocks import LOGITS
from fedpolyp.model.normalization import FrozenBatchNormalization


def config(**overrides: Any) -> Config:
    settings = {"data.image_size": 32, "model.encoder": "efficientnet-lite0"}
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


def weights(model: keras.Model) -> Arrays:
    return read({variable.path: variable for variable in model.weights})


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def images(count: int, size: int = 32) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [32, 48, 112])
def test_a_probability_comes_out_for_every_pixel(size: int) -> None:
    model = registry.build(config(data__image_size=size))
    assert model.output_shape == (None, size, size, 1)
    probability = model.predict(images(1, size), verbose=0)
    assert probability.shape == (1, size, size, 1) and 0 < probability.min() < probability.max() < 1


def test_the_encoder_s_features_go_to_the_decoder_at_strides_2_to_16() -> None:
    model = registry.build(config(data__image_size=128))
    inputs = {name: model.get_layer(name).input for name in ("decoder4_up", "decoder4_skip", "decoder3_skip")}
    assert inputs["decoder4_up"].shape == (None, 8, 8, 112)
    assert [x.shape[1:] for x in inputs["decoder4_skip"]] == [(16, 16, 64), (16, 16, 40)]
    assert [x.shape[1:] for x in inputs["decoder3_skip"]] == [(32, 32, 48), (32, 32, 24)]
    assert [x.shape[1:] for x in model.get_layer("decoder2_skip").input] == [(64, 64, 24), (64, 64, 16)]
    assert "decoder1_skip" not in {layer.name for layer in model.layers}


def test_the_default_size_is_0_92_million_parameters() -> None:
    sizes = {name: array.size for name, array in weights(registry.build(config())).items()}
    learnt = {name: size for name, size in sizes.items() if not is_statistic(name)}
    assert sum(learnt.values()) == 915_689 and sum(sizes.values()) == 932_457
    assert sum(size for name, size in learnt.items() if name.startswith(registry.ENCODER)) > 500_000


def test_first_weights_depend_on_the_seed_alone() -> None:
    first = weights(registry.build(config(seed=7)))
    keras.utils.set_random_seed(99)
    for overrides in ({}, {"data__image_size": 64}, {"training__precision": "mixed_bfloat16"}):
        assert same(first, weights(registry.build(config(seed=7, **overrides))))
    another = weights(registry.build(config(seed=8)))
    kernels = [name for name in first if name.endswith("kernel")]
    assert not any(np.array_equal(first[name], another[name]) for name in kernels)
    assert len({tuple(first[name].ravel()[:4]) for name in kernels}) == len(kernels)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_that_trains_has_the_names_and_weights_of_the_one_that_is_saved(precision: str, frozen: bool) -> None:
    one = config(training__precision=precision, model__frozen_statistics=frozen)
    training, plain = registry.build(one, for_training=True), registry.build(one)
    assert same(weights(plain), weights(training))
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    biased = [layer for layer in training.layers if getattr(layer, "use_bias", False) and layer.name != LOGITS]
    assert all(type(layer).__module__ == "fedpolyp.model.bias" for layer in biased) == (precision != "float32")
    kept = [layer.name for layer in training.layers if isinstance(layer, FrozenBatchNormalization)]
    assert bool(kept) == frozen and all(name.startswith(registry.ENCODER) for name in kept)
    assert training.get_layer(LOGITS).output.dtype == "float32"
    assert training.get_layer("encoder_block1_depthwise").output.dtype == "float32"
    assert training.get_layer("encoder_block1_expand").output.dtype == precision.removeprefix("mixed_")


def test_a_saved_model_loads_and_predicts_the_same(tmp_path: Path) -> None:
    model = registry.build(config())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert same(weights(model), weights(loaded))
    assert np.array_equal(model.predict(images(2), verbose=0), loaded.predict(images(2), verbose=0))


def test_frozen_statistics_leave_the_decoder_free_to_normalize_by_groups() -> None:
    model = registry.build(config(model__frozen_statistics=True, model__normalization="group"))
    statistics = [name for name in weights(model) if is_statistic(name)]
    assert statistics and all(name.startswith(registry.ENCODER) for name in statistics)
    with pytest.raises(UsageError, match=r"has batch normalizations: .* model\.frozen_statistics true; got group"):
        config(model__normalization="group")
