"""Batch normalization for training: Keras's, computed by TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """The same variables and, but for rounding, the same numbers as `keras.layers.BatchNormalization`.

    Keras takes some ten passes over the activations, in float32 whatever the precision. The fused kernel takes two, in
    the precision of the layer, with statistics in float32. The channels are the last axis.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs` (N, H, W, C): in training by their own statistics, which move the layer's."""
        learn = bool(training) and self.trainable
        nothing = tf.zeros([0])
        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=nothing if learn else self.moving_mean.value,
            variance=nothing if learn else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learn,
        )
        if learn:
            count = tf.cast(tf.size(inputs) // tf.size(mean), tf.float32)
            biased = variance * (count - 1) / count  # the kernel's is that of a sample, Keras's of a population
            for moving, seen in ((self.moving_mean, mean), (self.moving_variance, biased)):
                moving.assign(moving.value * self.momentum + seen * (1 - self.momentum))
        return normalized


class FrozenBatchNormalization(FusedBatchNormalization):
    """The same with the moving statistics as they came, in training too: its scale and shift learn, they do not move.

    (Keras's own `trainable = False` would keep scale and shift from learning as well.)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs` (N, H, W, C) by the moving statistics."""
        return super().call(inputs, training=False, mask=mask)
