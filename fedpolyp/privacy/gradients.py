"""The sum of the units' clipped gradients: the part of differential privacy that needs TensorFlow."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedpolyp.model.arrays import Arrays
from fedpolyp.model.losses import segmentation_loss

Unit = Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]  # its images (S, S, 3) and masks (S, S)
# Lengths are computed in float32: vectors are clipped to a little less than the clip, so that none exceeds it.
_SLACK = 1e-5


def clipped(gradients: Sequence[tf.Tensor], clip: tf.Tensor) -> list[tf.Tensor]:
    """`gradients`, together one vector, clipped to the length `clip`; zeros if their length is not finite."""
    squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32))) for gradient in gradients])
    length = tf.sqrt(squares)
    finite = tf.math.is_finite(length)
    scale = tf.where(finite, tf.minimum(1.0, clip * (1 - _SLACK) / tf.maximum(length, 1e-30)), 0.0)
    return [tf.math.multiply_no_nan(gradient, scale) for gradient in gradients]


class UnitGradients:
    """Gradients of a model's loss, unit by unit: one image at a time, so memory does not grow with the units."""

    def __init__(self, logits: keras.Model, variables: Sequence[keras.Variable], loss: str) -> None:
        """
        Args:
            logits: maps images (N, S, S, 3) uint8 to logits (N, S, S, 1).
            variables: the trainable variables.
            loss: the loss's name in the config.
        """
        self._logits, self._variables, self._loss = logits, variables, loss
        self._unit = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        # In float32 what one unit changes would depend on how the sum was rounded before: by far more than the slack.
        self._total = [tf.Variable(tf.zeros(variable.shape, tf.float64), trainable=False) for variable in variables]
        size = logits.input.shape[1]
        image, mask = tf.TensorSpec((1, size, size, 3), tf.uint8), tf.TensorSpec((1, size, size), tf.uint8)
        clip = tf.TensorSpec((), tf.float32)
        self._add = tf.function(self._add_image, input_signature=[image, mask], autograph=False)
        self._add_only = tf.function(self._add_only_image, input_signature=[image, mask, clip], autograph=False)
        self._close = tf.function(self._close_unit, input_signature=[clip], autograph=False)

    def clipped_sum(self, units: Iterable[Unit], clip: float) -> Arrays:
        """The sum over `units` of each one's gradient, clipped to the length `clip`; by the variables' paths, float64.

        A unit's gradient is the sum over its images. Dropout is off, and no statistics are updated.
        """
        # A sum that was interrupted has left a part of a unit, which would be added to another unit.
        for held in (*self._total, *self._unit):
            held.assign(tf.zeros_like(held))
        length = tf.constant(clip, tf.float32)
        for unit in units:
            if len(unit) == 1:
                self._add_only(*_batches_of_one(unit[0]), length)
                continue
            for pair in unit:
                self._add(*_batches_of_one(pair))
            self._close(length)
        return {v.path: total.numpy() for v, total in zip(self._variables, self._total, strict=True)}

    def _gradient(self, image: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = self._logits(image, training=False)[..., 0]
            loss = segmentation_loss(self._loss, tf.cast(mask, tf.float32), logits)[0]
        gradients: list[tf.Tensor] = tape.gradient(loss, [variable.value for variable in self._variables])
        return gradients

    def _add_image(self, image: tf.Tensor, mask: tf.Tensor) -> None:
        for held, gradient in zip(self._unit, self._gradient(image, mask), strict=True):
            held.assign_add(gradient)

    def _close_unit(self, clip: tf.Tensor) -> None:
        for total, own in zip(self._total, clipped([held.value() for held in self._unit], clip), strict=True):
            total.assign_add(tf.cast(own, tf.float64))
        for held in self._unit:
            held.assign(tf.zeros_like(held))

    def _add_only_image(self, image: tf.Tensor, mask: tf.Tensor, clip: tf.Tensor) -> None:
        for total, own in zip(self._total, clipped(self._gradient(image, mask), clip), strict=True):
            total.assign_add(tf.cast(own, tf.float64))


def _batches_of_one(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.asarray(pair[0])[None], np.asarray(pair[1])[None]


def as_units(
    images: NDArray[np.uint8], masks: NDArray[np.uint8], rows: Iterable[Sequence[int]]
) -> Iterable[list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
    """The units of `images` (N, S, S, 3) and `masks` (N, S, S), each given by the `rows` of its images."""
    return ([(images[row], masks[row]) for row in own] for own in rows)
