"""Batch normalization for training: Keras's, computed by TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """The same variables and, except for rounding, the same numbers as `keras.layers.BatchNormalization`.

    Keras takes about ten passes over the activations, in float32 whatever the precision. The fused kernel takes two, in
    the precision of the layer, with statistics in float32. The channels are the last axis.

    `fixed`: training, too, normalizes by the moving statistics and leaves them as they are. Scale and shift learn; with
    Keras's own `trainable = False` they would not.
    """

    fixed = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs` (N, H, W, C): in training by their own statistics, which update the layer's."""
        learn = bool(training) and self.trainable and not self.fixed
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
            # The kernel's is the sample variance, Keras's the population variance.
            biased = variance * (count - 1) / count
            for moving, seen in ((self.moving_mean, mean), (self.moving_variance, biased)):
                moving.assign(moving.value * self.momentum + seen * (1 - self.momentum))
        return normalized


class FrozenBatchNormalization(FusedBatchNormalization):
    """The same, always fixed."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs` (N, H, W, C) by the moving statistics."""
        return super().call(inputs, training=False, mask=mask)
