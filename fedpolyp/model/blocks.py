"""The building blocks of every model: layers that share a config, each with its own seed."""

import math

import keras
from keras import layers

from fedpolyp.config import Config
from fedpolyp.model import bias
from fedpolyp.model.normalization import FrozenBatchNormalization, FusedBatchNormalization

# Keras's default of 0.99 averages over the last hundred steps. A hospital takes about twenty in a round, so the moving
# statistics would describe weights of several rounds ago and evaluation would lag behind training.
STATISTICS_MOMENTUM = 0.9
# For depthwise convolutions, in every precision. TensorFlow's are slower in bfloat16: a step of EfficientNet-Lite0 took
# 44 ms an image with them, 31 without, and 37 in float32 (128 px, batches of 8).
DEPTHWISE_PRECISION = "float32"
LOGITS = "logits"


class Blocks:
    """Makes the layers of one model: Keras's own, or, for training, ours with the same names and weights."""

    def __init__(self, config: Config, for_training: bool) -> None:
        self.settings = config.model
        self.size = config.data.image_size
        self.for_training = for_training
        self.policy = keras.DTypePolicy(config.training.precision or "float32")
        self.in_bfloat16 = for_training and self.policy.compute_dtype != "float32"
        self.convolution_layer = bias.Conv2D if self.in_bfloat16 else layers.Conv2D
        self.upsampling_layer = bias.Conv2DTranspose if self.in_bfloat16 else layers.Conv2DTranspose
        self.batch_normalization = FusedBatchNormalization if for_training else layers.BatchNormalization
        # An encoder's statistics may stay as they were; only training would change them.
        frozen = for_training and config.model.frozen_statistics
        self.encoder_normalization = FrozenBatchNormalization if frozen else self.batch_normalization
        self._seed = config.seed * 1000  # leaves room for every layer between the seeds of two experiments

    def image(self) -> keras.KerasTensor:
        """The input: uint8 or float images (N, S, S, 3) in 0..255."""
        return keras.Input((self.size, self.size, 3), name="image")

    def seed(self) -> int:
        """A seed that no other layer of this model has."""
        self._seed += 1
        return self._seed

    def initializer(self) -> keras.initializers.Initializer:
        """What draws a kernel."""
        return keras.initializers.HeNormal(seed=self.seed())

    def rescaled(self, image: keras.KerasTensor, scale: float, offset: float = 0.0) -> keras.KerasTensor:
        """`image` times `scale`, plus `offset`."""
        return layers.Rescaling(scale, offset, dtype=self.policy, name="rescale")(image)

    def dropout(self, x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
        """`x` with a fraction `rate` of it dropped while it trains."""
        return layers.Dropout(rate, seed=self.seed(), dtype=self.policy, name=name)(x) if rate > 0 else x

    def convolution(self, x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        """A 3x3 convolution, the config's normalization, ReLU."""
        normalization = self.settings.normalization
        x = self.convolution_layer(
            filters,
            3,
            padding="same",
            use_bias=normalization == "none",  # a normalization that follows has its own bias
            kernel_initializer=self.initializer(),
            dtype=self.policy,
            name=name,
        )(x)
        if normalization == "batch":
            x = self.batch_normalization(momentum=STATISTICS_MOMENTUM, dtype=self.policy, name=f"{name}_norm")(x)
        elif normalization == "group":
            groups = math.gcd(8, filters)  # they must divide the channels
            x = layers.GroupNormalization(groups=groups, dtype=self.policy, name=f"{name}_norm")(x)
        return layers.Activation("relu", dtype=self.policy, name=f"{name}_relu")(x)

    def upsample(self, x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        """A transposed convolution to twice the height and width."""
        return self.upsampling_layer(
            filters, 2, strides=2, kernel_initializer=self.initializer(), dtype=self.policy, name=f"{name}_up"
        )(x)

    def join(self, x: keras.KerasTensor, skip: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Both, concatenated along the channels."""
        return layers.Concatenate(dtype=self.policy, name=f"{name}_skip")([x, skip])

    def model(self, image: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
        """The whole model, from `image` to the probability of lesion (N, S, S, 1); `x` is the decoder's output.

        The layer before the sigmoid is named `LOGITS`. Logits and probabilities are float32 in every precision, because
        bfloat16 would lose digits in the loss.
        """
        x = layers.Conv2D(1, 1, dtype="float32", kernel_initializer=self.initializer(), name=LOGITS)(x)
        return keras.Model(image, layers.Activation("sigmoid", dtype="float32", name="probability")(x), name="unet")
