"""Losses of a batch of segmentations, one value for each image."""

import tensorflow as tf


def cross_entropy(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each image, mean over its pixels: truth in {0, 1} and logits, (N, H, W), to (N,)."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), axis=(1, 2))


def soft_dice_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 - soft Dice of each image (Milletari et al., 3DV 2016, without the squares), in [0, 1]: (N, H, W) to (N,).

    One is added above and below, so that an empty truth with an empty prediction costs nothing.
    """
    probability = tf.sigmoid(logits)
    overlap = tf.reduce_sum(truth * probability, axis=(1, 2))
    areas = tf.reduce_sum(truth, axis=(1, 2)) + tf.reduce_sum(probability, axis=(1, 2))
    return 1.0 - (2.0 * overlap + 1.0) / (areas + 1.0)


def segmentation_loss(name: str, truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The loss called `name` in the config ('bce' or 'bce+dice'), one value an image, (N,) float32."""
    loss = cross_entropy(truth, logits)
    return loss + soft_dice_loss(truth, logits) if name == "bce+dice" else loss
