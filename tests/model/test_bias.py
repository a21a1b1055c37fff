"""Biases learn in bfloat16 what they learn in float32, and the layers are else Keras's."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fedpolyp.model import bias
from tests.bfloat16 import MIXED, computes_in_bfloat16

LAYERS: list[tuple[type[keras.layers.Layer], type[keras.layers.Layer], dict[str, Any]]] = [
    (bias.Conv2D, keras.layers.Conv2D, {"kernel_size": 3, "padding": "same"}),
    (bias.Conv2DTranspose, keras.layers.Conv2DTranspose, {"kernel_size": 2, "strides": 2}),
]


def relative_error(layer: keras.layers.Layer) -> float:
    """How far the gradient of its bias is from the exact one where most of 131,072 pixels' gradients cancel."""
    size = 128 // layer.strides[0]
    images = tf.zeros((8, size, size, 3))
    layer.build(images.shape)
    upstream = tf.cast(np.random.default_rng(0).normal(1e-3, 1e-2, (8, 128, 128, 4)), tf.bfloat16)
    with tf.GradientTape() as tape:
        outputs = layer(images)
    gradient = tape.gradient(outputs, layer.bias.value, output_gradients=upstream)
    exact = tf.cast(upstream, tf.float64).numpy().sum(axis=(0, 1, 2))
    return float(np.abs(gradient.numpy() / exact - 1).max())


@computes_in_bfloat16
@pytest.mark.parametrize(("ours", "keras_layer", "options"), LAYERS)
def test_a_bias_has_the_gradient_that_keras_loses_in_bfloat16(
    ours: type[keras.layers.Layer], keras_layer: type[keras.layers.Layer], options: dict[str, Any]
) -> None:
    assert relative_error(ours(4, dtype="mixed_bfloat16", **options)) < 2**-8  # half a unit of what bfloat16 can hold
    # Once this no longer holds, the layers can go.
    assert relative_error(keras_layer(4, dtype="mixed_bfloat16", **options)) > 0.1


@pytest.mark.parametrize(("ours", "keras_layer", "options"), LAYERS)
@pytest.mark.parametrize("precision", ["float32", MIXED])
def test_outputs_and_other_gradients_are_those_of_keras(
    ours: type[keras.layers.Layer], keras_layer: type[keras.layers.Layer], options: dict[str, Any], precision: str
) -> None:
    seen = []
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(2, 8, 8, 3)), tf.float32)
    start = [rng.normal(size=3 * 5 * options["kernel_size"] ** 2), rng.normal(size=5)]
    for kind in (ours, keras_layer):
        layer = kind(5, dtype=precision, name="layer", **options)
        layer.build(images.shape)
        layer.set_weights([w.reshape(v.shape) for w, v in zip(start, layer.weights, strict=True)])
        with tf.GradientTape() as tape:
            outputs = layer(images)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        seen.append([outputs, *tape.gradient(loss, [variable.value for variable in layer.weights])])
        assert [variable.path for variable in layer.weights] == ["layer/kernel", "layer/bias"]
    if precision != "float32":  # that of the bias is what differs
        seen = [each[:-1] for each in seen]
    for one, other in zip(*(map(np.asarray, each) for each in seen), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), rtol=1e-5)
