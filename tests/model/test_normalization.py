"""The fused normalization is Keras's, in training and after it, in both precisions."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fedpolyp.model.normalization import FusedBatchNormalization
from tests.bfloat16 import computes_in_bfloat16


def steps(kind: type[keras.layers.Layer], precision: str, count: int = 3) -> dict[str, Any]:
    """Outputs, gradients and moving statistics of a layer that was trained for some steps."""
    rng = np.random.default_rng(0)
    layer = kind(momentum=0.9, dtype=precision)
    layer.build((None, 4, 4, 3))
    layer.gamma.assign([0.5, 1.0, 2.0])
    seen: dict[str, Any] = {}
    for step in range(count):
        inputs = tf.cast(rng.normal([1, -2, 3], [1, 2, 0.1], (2, 4, 4, 3)), layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
        gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        for name, tensor in zip(("inputs", "gamma", "beta"), gradients, strict=True):
            seen[f"gradient of {name}, step {step}"] = tensor
        seen[f"outputs, step {step}"] = outputs
    seen |= {"mean": layer.moving_mean.value, "variance": layer.moving_variance.value}
    return seen | {"inference": layer(inputs, training=False)}


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), pytest.param("mixed_bfloat16", 0.05, marks=computes_in_bfloat16)]
)
def test_outputs_gradients_and_statistics_are_those_of_keras(precision: str, tolerance: float) -> None:
    ours, theirs = (steps(kind, precision) for kind in (FusedBatchNormalization, keras.layers.BatchNormalization))
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype, name
        one, other = (np.asarray(tf.cast(tensor, tf.float32)) for tensor in (ours[name], expected))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max(), err_msg=name)


def test_inference_moves_no_statistics() -> None:
    layer = FusedBatchNormalization()
    layer(np.ones((1, 2, 2, 3), np.float32), training=False)
    assert np.array_equal(layer.moving_mean, np.zeros(3)) and np.array_equal(layer.moving_variance, np.ones(3))


def test_fixed_statistics_normalize_in_training_too_and_scale_and_shift_learn() -> None:
    inputs = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)).astype(np.float32)
    layer = FusedBatchNormalization(momentum=0.9)
    layer(inputs, training=True)
    before = [np.array(each) for each in (layer.moving_mean, layer.moving_variance)]
    layer.fixed = True
    with tf.GradientTape() as tape:
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs**3)
    assert np.array_equal(outputs, layer(inputs, training=False))
    assert np.array_equal(before, [layer.moving_mean, layer.moving_variance])
    assert all(np.all(gradient) for gradient in tape.gradient(loss, [layer.gamma.value, layer.beta.value]))
    layer.fixed = False
    assert not np.array_equal(outputs, layer(inputs, training=True))
    assert not np.array_equal(before[0], layer.moving_mean)


@computes_in_bfloat16
def test_statistics_stay_float32_where_activations_are_bfloat16() -> None:
    seen = steps(FusedBatchNormalization, "mixed_bfloat16", 1)
    assert seen["mean"].dtype == seen["variance"].dtype == "float32" and seen["inference"].dtype == "bfloat16"
