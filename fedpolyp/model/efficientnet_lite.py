"""A U-Net whose encoder is EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variants: Google, 2020).

EfficientNet-B0 without squeeze-and-excitation and with ReLU6. How it pads ('same', as TensorFlow does), the epsilon of
its normalizations and the scale of its input are those of Google's own code (tensorflow/tpu,
models/official/efficientnet/lite/efficientnet_lite_builder.py); tests check them on photographs.
"""

import re

import keras
from keras import layers

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.model import torch_file, weights
from fedpolyp.model.arrays import Arrays
from fedpolyp.model.blocks import DEPTHWISE_PRECISION, STATISTICS_MOMENTUM, Blocks
from fedpolyp.model.decoder import decode
from fedpolyp.model.registry import ENCODER

# Repeats, kernel, stride, expansion and filters of the blocks of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_TO_STRIDE_16 = STAGES[:5]
_STEM = 32
_EPSILON = 1e-3
_MEAN, _DEVIATION = 127.0, 128.0

# The name of a layer in the file, and its name here.
_OUTSIDE = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "head", "_bn1": "head_norm", "_fc": "classes"}
_INSIDE = {
    "_expand_conv": "expand",
    "_bn0": "expand_norm",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_norm",
    "_project_conv": "project",
    "_bn2": "project_norm",
}
_VALUES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_NAME = re.compile(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)")


def build(config: Config, for_training: bool = False) -> keras.Model:
    """The model of `config`: see `fedpolyp.model.registry.build`."""
    blocks = Blocks(config, for_training)
    image = blocks.image()
    return blocks.model(image, decode(blocks, features(blocks, image, _TO_STRIDE_16)))


def features(
    blocks: Blocks, image: keras.KerasTensor, stages: tuple[tuple[int, int, int, int, int], ...]
) -> list[keras.KerasTensor]:
    """The last features of the network at strides 2, 4, 8, …, as far as `stages` go."""
    make = _Layers(blocks)
    x = make.convolution(blocks.rescaled(image, 1 / _DEVIATION, -_MEAN / _DEVIATION), _STEM, 3, 2, "stem")
    found, number = [x], 0
    for repeats, kernel, stage_stride, expansion, filters in stages:
        for repeat in range(repeats):
            stride = stage_stride if repeat == 0 else 1
            x = make.block(x, kernel, stride, expansion, filters, f"block{number}")
            number += 1
            if stride == 2:
                found.append(x)
            else:
                found[-1] = x
    return found


def pretrained(config: Config) -> Arrays:
    """The ImageNet weights of the whole network, by the names of the variables here.

    Raises:
        FedpolypError: their package is not installed, or contains something else.
    """
    try:
        tensors = torch_file.read(weights.read(config.model))
    except torch_file.NotTensors as error:
        raise FedpolypError(f"{weights.weights_file(config.model)} does not hold weights: {error}") from None
    return {
        _own_name(name, array.ndim): array.transpose(_AXES[array.ndim, "depthwise" in name])
        for name, array in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


# From PyTorch's order of a kernel's axes (out, in, height, width), or (out, in), to Keras's; a depthwise kernel is
# (channels, 1, height, width) there and (height, width, channels, 1) here.
_AXES = {(1, False): (0,), (1, True): (0,), (2, False): (1, 0), (4, False): (2, 3, 1, 0), (4, True): (2, 3, 0, 1)}


def _own_name(name: str, axes: int) -> str:
    found = _NAME.fullmatch(name)
    block, layer, value = found.groups() if found else ("", "", "")
    known = _OUTSIDE if block is None else _INSIDE
    if layer not in known or value not in _VALUES:
        raise FedpolypError(f"the weights of EfficientNet-Lite0 name an unknown array {name}")
    own = known[layer] if block is None else f"block{block}_{known[layer]}"
    if axes > 1:
        return f"{ENCODER}{own}/kernel"
    return f"{ENCODER}{own}/{'bias' if layer == '_fc' else _VALUES[value]}"


class _Layers:
    """Makes the encoder's layers."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.policy = blocks.policy

    def convolution(
        self, x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str, activate: bool = True
    ) -> keras.KerasTensor:
        x = layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer=self.blocks.initializer(),
            dtype=self.policy,
            name=ENCODER + name,
        )(x)
        return self._normalized(x, name, activate)

    def depthwise(self, x: keras.KerasTensor, kernel: int, stride: int, name: str) -> keras.KerasTensor:
        x = layers.DepthwiseConv2D(
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=self.blocks.initializer(),
            dtype=DEPTHWISE_PRECISION,
            name=ENCODER + name,
        )(x)
        return self._normalized(x, name, True)

    def block(
        self, x: keras.KerasTensor, kernel: int, stride: int, expansion: int, filters: int, name: str
    ) -> keras.KerasTensor:
        """An inverted bottleneck (Sandler et al., CVPR 2018): expand, convolve each channel, project, and add."""
        channels, inner = x.shape[-1], x
        if expansion > 1:
            inner = self.convolution(inner, channels * expansion, 1, 1, f"{name}_expand")
        inner = self.depthwise(inner, kernel, stride, f"{name}_depthwise")
        inner = self.convolution(inner, filters, 1, 1, f"{name}_project", activate=False)
        if stride > 1 or channels != filters:
            return inner
        return layers.Add(dtype=self.policy, name=f"{ENCODER}{name}_add")([x, inner])

    def _normalized(self, x: keras.KerasTensor, name: str, activate: bool) -> keras.KerasTensor:
        normalization = self.blocks.encoder_normalization
        x = normalization(
            momentum=STATISTICS_MOMENTUM, epsilon=_EPSILON, dtype=self.policy, name=f"{ENCODER}{name}_norm"
        )(x)
        return layers.ReLU(max_value=6.0, dtype=self.policy, name=f"{ENCODER}{name}_relu")(x) if activate else x
