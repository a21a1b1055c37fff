"""Convolutions whose biases learn the same in bfloat16 as in float32."""

from typing import Any

import keras
import tensorflow as tf


class Conv2D(keras.layers.Conv2D):
    """Keras's, without an activation; the channels are the last axis."""

    def call(self, inputs: Any) -> Any:
        """Convolve `inputs` (N, H, W, C)."""
        outputs = self.convolution_op(inputs, self.kernel)
        return add_bias(outputs, self.bias) if self.use_bias else outputs


class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras's, with a bias and without an activation; the channels are the last axis."""

    def call(self, inputs: Any) -> Any:
        """Convolve `inputs` (N, H, W, C)."""
        return add_bias(keras.ops.conv_transpose(inputs, self.kernel, self.strides, self.padding), self.bias)


def add_bias(activations: tf.Tensor, bias: Any) -> tf.Tensor:
    """`activations` (N, H, W, C) plus `bias` (C,).

    Keras adds it with `tf.nn.bias_add`, whose gradient is a sum of a hundred thousand bfloat16 numbers in bfloat16.
    Such a sum stops growing once it is 256 times the next summand. Where the numbers nearly cancel, it comes out tens
    of times too large, and under Adam, whose steps have one size, the bias drifts. `tf.add` sums in float32.
    """
    return tf.add(activations, bias)
