"""The optimizers do what their papers say, and what they remember goes in and out by name."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fedpolyp.config import load
from fedpolyp.optimizers import Adam, AdamW, Muon, optimizer_of, remembered
from fedpolyp.training import Trainer
from tests.same_bits import equal
from tests.test_training import frames, same, tiny, train


def variable(shape: tuple[int, ...], seed: int = 0) -> keras.Variable:
    return keras.Variable(np.random.default_rng(seed).normal(size=shape).astype(np.float32), name="kernel")


def newton_schulz(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The iteration as Jordan wrote it down, in float64."""
    x = matrix.astype(np.float64)
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / np.linalg.norm(x)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def stepped(optimizer: keras.optimizers.Optimizer, shape: tuple[int, ...], gradient: np.ndarray[Any, Any]) -> Any:
    """What one step takes off a variable."""
    one = variable(shape)
    before = one.numpy().copy()
    optimizer.build([one])
    optimizer.apply([tf.constant(gradient, tf.float32)], [one])
    return before - one.numpy()


@pytest.mark.parametrize(("ours", "kerass"), [(Adam, keras.optimizers.Adam), (AdamW, keras.optimizers.AdamW)])
def test_adam_in_one_operation_takes_the_steps_of_keras_and_remembers_the_same(ours: Any, kerass: Any) -> None:
    random = np.random.default_rng(0)
    made = []
    for kind in (ours, kerass):
        one, optimizer = variable((3, 3, 4, 8)), kind(0.01)
        optimizer.build([one])
        made.append((one, optimizer))
    for _ in range(5):
        gradient = tf.constant(random.normal(size=(3, 3, 4, 8)), tf.float32)
        for one, optimizer in made:
            optimizer.apply([gradient], [one])
    (one, optimizer), (other, model) = made
    assert one.numpy() == pytest.approx(other.numpy(), rel=1e-5, abs=1e-6)
    for mine, theirs in zip(optimizer.variables, model.variables, strict=True):
        assert mine.name == theirs.name and mine.numpy() == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 2, 32), (1, 1, 6, 5)])
def test_muon_steps_by_the_orthogonalized_gradient_of_a_kernel_as_one_matrix(shape: tuple[int, ...]) -> None:
    gradient = np.random.default_rng(1).normal(size=shape)
    matrix = gradient.reshape(-1, shape[3])
    expected = 0.01 * 0.2 * np.sqrt(max(matrix.shape)) * newton_schulz(matrix).reshape(shape)
    assert stepped(Muon(0.01), shape, gradient) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_muon_takes_a_transposed_kernel_by_its_own_axes() -> None:
    shape = (2, 2, 3, 8)  # height, width, out, in
    gradient = np.random.default_rng(1).normal(size=shape)
    matrix = gradient.transpose(3, 0, 1, 2).reshape(8, 12)
    expected = 0.01 * 0.2 * np.sqrt(12) * newton_schulz(matrix).reshape(8, 2, 2, 3).transpose(1, 2, 3, 0)
    optimizer = Muon(0.01, transposed=[variable(shape).path])
    assert stepped(optimizer, shape, gradient) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("spectrum", [0.0, -3.0, -6.0], ids=["flat", "steep", "steeper"])
@pytest.mark.parametrize("shape", [(2304, 256), (27, 16), (16, 288)])
def test_the_iteration_on_the_small_matrix_is_the_iteration_on_the_large_one(
    shape: tuple[int, int], spectrum: float
) -> None:
    u, s, v = np.linalg.svd(np.random.default_rng(0).normal(size=shape), full_matrices=False)
    matrix = (u * s * np.logspace(0, spectrum, len(s))) @ v
    found = Muon(0.01)._orthogonal(tf.constant(matrix, tf.float32)).numpy()
    expected = newton_schulz(matrix)
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", [(7,), (1, 1, 16, 1), (3, 3, 8, 1)], ids=["bias", "logits", "depthwise"])
def test_muon_gives_vectors_logits_and_depthwise_kernels_the_step_of_adam(shape: tuple[int, ...]) -> None:
    gradient = np.random.default_rng(1).normal(size=shape)
    adam = stepped(keras.optimizers.Adam(0.01 * Muon.ADAM_RATIO), shape, gradient)
    assert stepped(Muon(0.01), shape, gradient) == pytest.approx(adam, rel=1e-4)


def test_muon_remembers_one_buffer_of_a_kernel_and_two_of_what_takes_adam() -> None:
    trainer = Trainer(tiny(training__optimizer="muon"))
    names = set(trainer.start.optimizer)
    assert {
        "iterations",
        "m/logits/kernel",
        "v/logits/kernel",
        "m/encoder1_conv1/kernel",
        "m/decoder1_up/kernel",
    } < names
    assert not {"v/bridge_conv1/kernel", "v/decoder1_up/kernel"} & names
    one = {v.path: v for v in trainer.network.model.trainable_variables}
    assert all(trainer.start.optimizer[name].shape == tuple(one[name[2:]].shape) for name in names - {"iterations"})


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "sgd"])
def test_every_optimizer_learns_remembers_by_name_and_leaves_no_trace(name: str) -> None:
    trainer, data = Trainer(tiny(training__optimizer=name)), frames(8)
    rate = {"muon": 0.03, "sgd": 0.03}.get(name, 0.01)
    first = train(trainer, data, learning_rate=rate)
    assert np.isfinite(first.loss) and first.optimizer["iterations"] == first.steps
    assert all(np.abs(first.optimizer[key]).sum() > 0 for key in first.optimizer if key.startswith(("m/", "v/")))
    assert {key[2:] for key in first.optimizer if key.startswith("m/")} == {
        v.path for v in trainer.network.model.trainable_variables
    }
    goes_on = train(trainer, data, first.arrays, learning_rate=rate, round=2, optimizer=first.optimizer)
    assert goes_on.loss < first.loss
    assert not equal(goes_on.arrays, train(trainer, data, first.arrays, learning_rate=rate, round=2).arrays)
    assert same(train(trainer, data, learning_rate=rate), first)


def test_adamw_takes_the_decay_off_kernels_alone() -> None:
    kernels = {}
    for decay in (0.0, 0.5):
        trainer = Trainer(tiny(training__optimizer="adamw", training__weight_decay=decay))
        kernels[decay] = train(trainer, frames(4), learning_rate=0.01).arrays
    changed = {name for name in kernels[0.0] if not np.array_equal(kernels[0.0][name], kernels[0.5][name])}
    # One step: what decay took off a kernel is half a hundredth of it; norms and biases moved by the gradient alone.
    trainable = {v.path for v in trainer.network.model.trainable_variables}
    assert changed & trainable == {name for name in trainable if name.endswith("kernel")}
    shrunk = kernels[0.0]["bridge_conv1/kernel"] - 0.005 * trainer.initial["bridge_conv1/kernel"]
    assert kernels[0.5]["bridge_conv1/kernel"] == pytest.approx(shrunk, abs=1e-6)


def test_what_the_config_calls_an_optimizer_is_that_optimizer() -> None:
    model = Trainer(tiny()).network.model
    kinds = {"adam": Adam, "adamw": AdamW, "muon": Muon, "sgd": keras.optimizers.SGD}
    for name, kind in kinds.items():
        made = optimizer_of(load(overrides={"training.optimizer": name}).training, model)
        assert type(made) is kind
        assert remembered(made, model.trainable_variables)["iterations"] is made.iterations
