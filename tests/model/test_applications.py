"""U-Nets on the encoders of keras.applications: shape, names, precision, and weights from a user's file."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from fedpolyp.config import Config, load
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.model import registry, weights
from fedpolyp.model.arrays import Arrays, is_statistic, read
from fedpolyp.model.blocks import LOGITS

NETWORKS = {
    "mobilenet-v2": keras.applications.MobileNetV2,
    "efficientnet-v2-b0": keras.applications.EfficientNetV2B0,
    "resnet50-v2": keras.applications.ResNet50V2,
}
# Of the features at strides 2, 4, 8 and 16.
CHANNELS = {
    "mobilenet-v2": (16, 24, 32, 96),
    "efficientnet-v2-b0": (16, 32, 48, 112),
    "resnet50-v2": (64, 64, 128, 256),
}


def config(encoder: str, **overrides: Any) -> Config:
    settings = {"data.image_size": 32, "model.encoder": encoder, "model.encoder_weights": "random"}
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


def weights_of(model: keras.Model) -> Arrays:
    return read({variable.path: variable for variable in model.weights})


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def images(count: int, size: int = 32) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


# To build one of these networks takes a second or more.
@lru_cache(maxsize=None)  # noqa: UP033
def network_of(encoder: str) -> keras.Model:
    """A network with weights that are nobody's first; nobody changes it."""
    keras.utils.set_random_seed(3)
    network = NETWORKS[encoder](include_top=False, weights=None, input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    for variable in network.weights:
        low, high = (0.5, 1.5) if variable.path.endswith(("gamma", "moving_variance")) else (-0.1, 0.1)
        variable.assign(rng.uniform(low, high, variable.shape))
    return network


@lru_cache(maxsize=None)  # noqa: UP033
def first_weights(encoder: str) -> Arrays:
    """The weights of a new model with this encoder; nobody changes them."""
    return weights_of(model_with(encoder))


@lru_cache(maxsize=None)  # noqa: UP033
def model_with(encoder: str) -> keras.Model:
    """A new model with this encoder; only its weights are changed, after `first_weights`."""
    return registry.build(config(encoder))


def saved(encoder: str, file: Path) -> keras.Model:
    """The network of `network_of`, written to `file`."""
    network = network_of(encoder)
    network.save_weights(file) if file.name.endswith(".weights.h5") else network.save(file)  # as Keras 2 wrote them
    return network


@pytest.fixture(params=list(NETWORKS))
def encoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.slow
def test_the_encoder_s_features_go_to_the_decoder_at_strides_2_to_16(encoder: str) -> None:
    model = registry.build(config(encoder, data__image_size=48))
    assert model.output_shape == (None, 48, 48, 1)
    skips = [model.get_layer(f"decoder{number}_skip").input[1].shape[1:] for number in (2, 3, 4)]
    found = [*skips, model.get_layer("decoder4_up").input.shape[1:]]
    assert found == [(48 // 2**n, 48 // 2**n, channels) for n, channels in enumerate(CHANNELS[encoder], start=1)]


def test_first_weights_depend_on_the_seed_alone(encoder: str) -> None:
    first = first_weights(encoder)
    keras.utils.set_random_seed(99)
    assert same(first, weights_of(registry.build(config(encoder, training__precision="mixed_bfloat16"))))
    kernels = [name for name in first if name.endswith("kernel")]
    assert len({tuple(first[name].ravel()[:4]) for name in kernels}) == len(kernels)


@pytest.mark.slow
def test_the_model_that_trains_has_the_names_and_weights_of_the_one_that_is_saved(encoder: str, tmp_path: Path) -> None:
    one = config(encoder, training__precision="mixed_bfloat16", model__frozen_statistics=True)
    training, plain = registry.build(one, for_training=True), registry.build(one)
    assert same(weights_of(plain), weights_of(training))
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    kinds = {type(layer) for layer in training.layers if layer.name.startswith(registry.ENCODER)}
    assert keras.layers.BatchNormalization not in kinds
    depthwise = [layer for layer in training.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert {layer.output.dtype for layer in depthwise} <= {"float32"}
    # A bias that is added to a whole map of features; those of squeeze-and-excitation are added to one value.
    biased = [
        layer
        for layer in training.layers
        if getattr(layer, "use_bias", False) and layer.name != LOGITS and layer.output.shape[1] > 1
    ]
    assert biased and all(type(layer).__module__ == "fedpolyp.model.bias" for layer in biased)
    assert training.get_layer(LOGITS).output.dtype == "float32"

    flat = registry.build(config(encoder))
    flat.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(flat.predict(images(2), verbose=0), loaded.predict(images(2), verbose=0))


def test_a_file_of_weights_gives_the_features_that_the_network_itself_has(encoder: str, tmp_path: Path) -> None:
    network = saved(encoder, tmp_path / "own.weights.h5")
    named = weights.noted(config(encoder, model__encoder_weights=str(tmp_path / "own.weights.h5")))
    assert named.model.encoder_sha256 is not None
    begun, model = registry.initial(named, first_weights(encoder)), model_with(encoder)
    for variable in model.weights:
        variable.assign(begun[variable.path])
    features = [model.get_layer(f"decoder{number}_skip").input[1] for number in (2, 3, 4)]
    ours = keras.Model(model.input, [*features, model.get_layer("decoder4_up").input])(images(2))
    names = [tensor._keras_history.operation.name.removeprefix(registry.ENCODER) for tensor in features]
    names.append(model.get_layer("decoder4_up").input._keras_history.operation.name.removeprefix(registry.ENCODER))
    theirs = keras.Model(network.input, [network.get_layer(name).output for name in names])
    given = images(2).astype(np.float32)
    preprocess = {
        "mobilenet-v2": keras.applications.mobilenet_v2.preprocess_input,
        "efficientnet-v2-b0": keras.applications.efficientnet_v2.preprocess_input,
        "resnet50-v2": keras.applications.resnet_v2.preprocess_input,
    }[encoder]
    for one, other in zip(ours, theirs(preprocess(given)), strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-4 * float(np.abs(other).max()))


def test_the_decoder_begins_random_and_statistics_come_with_the_file(tmp_path: Path) -> None:
    saved("mobilenet-v2", tmp_path / "own.h5")
    named = config("mobilenet-v2", model__encoder_weights=str(tmp_path / "own.h5"))
    random = first_weights("mobilenet-v2")
    begun = registry.initial(named, random)
    assert list(begun) == list(random) and all(begun[name].dtype == np.float32 for name in begun)
    for name, array in begun.items():
        changed = not np.array_equal(array, random[name])
        assert changed == name.startswith(registry.ENCODER), name
    assert any(is_statistic(name) for name in begun if name.startswith(registry.ENCODER))


def test_a_file_of_another_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    saved("efficientnet-v2-b0", tmp_path / "own.weights.h5")
    named = config("mobilenet-v2", model__encoder_weights=str(tmp_path / "own.weights.h5"))
    with pytest.raises(FedpolypError, match="does not hold weights of mobilenet-v2 without its classifier: "):
        registry.initial(named, first_weights("mobilenet-v2"))
    (tmp_path / "own.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(FedpolypError, match="does not hold weights of mobilenet-v2"):
        registry.initial(named, first_weights("mobilenet-v2"))


def test_a_file_that_lacks_an_array_is_refused(tmp_path: Path) -> None:
    saved("mobilenet-v2", file := tmp_path / "own.weights.h5")
    with h5py.File(file, "r+") as content:
        groups: list[str] = []
        content.visit(groups.append)
        del content[next(name for name in groups if name.endswith("vars/3"))]
    named = config("mobilenet-v2", model__encoder_weights=str(file))
    with pytest.raises(FedpolypError, match="mobilenet-v2"):
        registry.initial(named, first_weights("mobilenet-v2"))
    with h5py.File(file, "r+") as content:
        del content["layers"]
    with pytest.raises(FedpolypError, match="mobilenet-v2"):
        registry.initial(named, first_weights("mobilenet-v2"))


def test_a_file_that_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    saved("mobilenet-v2", file := tmp_path / "own.weights.h5")
    named = weights.noted(config("mobilenet-v2", model__encoder_weights=str(file)))
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UsageError, match="not those expected: SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        registry.initial(named, {})


def test_what_is_no_file_of_weights_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match=r"model\.encoder_weights must be imagenet, random or a file \(\.h5\)"):
        config("mobilenet-v2", model__encoder_weights="imagnet")
    with pytest.raises(UsageError, match="cannot read the weights nowhere/own.h5: No such file"):
        weights.noted(config("mobilenet-v2", model__encoder_weights="nowhere/own.h5"))
