"""The U-Net: four encoder blocks, a bridge, four decoder blocks (Ronneberger et al., MICCAI 2015)."""

import math

import keras
from keras import layers

from fedpolyp.config import Config
from fedpolyp.model import bias
from fedpolyp.model.normalization import FusedBatchNormalization

DEPTH = 4
# Keras's default of 0.99 averages over the last hundred steps. A hospital takes about twenty in a round, so the moving
# statistics would describe weights of several rounds ago and evaluation would lag behind training.
STATISTICS_MOMENTUM = 0.9
LOGITS = "logits"


def build_unet(config: Config, for_training: bool = False) -> keras.Model:
    """The U-Net of `config`: uint8 or float images (N, S, S, 3) in 0..255 in, lesion probability (N, S, S, 1) out.

    Initial weights depend on `config.seed` alone. The layer before the sigmoid is named `LOGITS`. Made of Keras's own
    layers, so that a saved model is read by Keras alone, or `for_training` of ours with the same names and weights.
    """
    builder = _Builder(config, for_training)
    image = keras.Input((config.data.image_size, config.data.image_size, 3), name="image")
    x = layers.Rescaling(1 / 255, dtype=builder.policy, name="rescale")(image)
    skips = []
    for level in range(DEPTH):
        x = builder.block(x, level, f"encoder{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"encoder{level + 1}_pool")(x)
    x = builder.block(x, DEPTH, "bridge")
    for level in reversed(range(DEPTH)):
        name = f"decoder{level + 1}"
        x = builder.upsample(x, level, name)
        x = layers.Concatenate(name=f"{name}_skip")([x, skips[level]])
        x = builder.block(x, level, name)
    # Logits and probabilities stay float32 in every precision: the loss is where bfloat16 would lose digits.
    x = layers.Conv2D(1, 1, dtype="float32", kernel_initializer=builder.initializer(), name=LOGITS)(x)
    return keras.Model(image, layers.Activation("sigmoid", dtype="float32", name="probability")(x), name="unet")


class _Builder:
    """Makes blocks that share a config, each layer with a seed of its own."""

    def __init__(self, config: Config, for_training: bool) -> None:
        self.model = config.model
        self.policy = keras.DTypePolicy(config.training.precision or "float32")
        in_bfloat16 = for_training and self.policy.compute_dtype != "float32"
        self.convolution_layer = bias.Conv2D if in_bfloat16 else layers.Conv2D
        self.upsampling_layer = bias.Conv2DTranspose if in_bfloat16 else layers.Conv2DTranspose
        self.batch_normalization = FusedBatchNormalization if for_training else layers.BatchNormalization
        self._seed = config.seed * 1000  # room for every layer between one experiment's seed and the next

    def initializer(self) -> keras.initializers.Initializer:
        self._seed += 1
        return keras.initializers.HeNormal(seed=self._seed)

    def filters(self, level: int) -> int:
        return self.model.base_filters * 2**level

    def block(self, x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
        x = self.convolution(x, level, f"{name}_conv1")
        first, last = self.model.dropout
        rate = first + (last - first) * level / DEPTH
        if rate > 0:
            self._seed += 1
            x = layers.Dropout(rate, seed=self._seed, dtype=self.policy, name=f"{name}_dropout")(x)
        return self.convolution(x, level, f"{name}_conv2")

    def convolution(self, x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
        normalization = self.model.normalization
        x = self.convolution_layer(
            self.filters(level),
            3,
            padding="same",
            use_bias=normalization == "none",  # a normalization that follows has a bias of its own
            kernel_initializer=self.initializer(),
            dtype=self.policy,
            name=name,
        )(x)
        if normalization == "batch":
            x = self.batch_normalization(momentum=STATISTICS_MOMENTUM, dtype=self.policy, name=f"{name}_norm")(x)
        elif normalization == "group":
            groups = math.gcd(8, self.filters(level))  # they must divide the channels
            x = layers.GroupNormalization(groups=groups, dtype=self.policy, name=f"{name}_norm")(x)
        return layers.Activation("relu", dtype=self.policy, name=f"{name}_relu")(x)

    def upsample(self, x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
        return self.upsampling_layer(
            self.filters(level),
            2,
            strides=2,
            kernel_initializer=self.initializer(),
            dtype=self.policy,
            name=f"{name}_up",
        )(x)
