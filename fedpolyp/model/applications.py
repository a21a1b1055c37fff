"""U-Nets on encoders of `keras.applications`, with weights from a file of the user's or from Keras's own download."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.model import weights as files
from fedpolyp.model.arrays import Arrays
from fedpolyp.model.blocks import DEPTHWISE_PRECISION, STATISTICS_MOMENTUM, Blocks
from fedpolyp.model.decoder import decode
from fedpolyp.model.registry import ENCODER


@dataclass(frozen=True)
class _Application:
    """One of Keras's networks."""

    network: Callable[..., keras.Model]
    features: tuple[str, str, str, str]  # its layers whose outputs are used, at strides 2, 4, 8 and 16
    scales: bool  # whether it scales the images itself; otherwise it wants them in -1..1


_APPLICATIONS = {
    "mobilenet-v2": _Application(
        keras.applications.MobileNetV2,
        ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add"),
        scales=False,
    ),
    "efficientnet-v2-b0": _Application(
        keras.applications.EfficientNetV2B0,
        ("block1a_project_activation", "block2b_add", "block3b_add", "block5e_add"),
        scales=True,
    ),
    # The outputs of its stages have 256 to 1024 channels that are not normalized; the next layers have neither
    # normalization nor activation.
    "resnet50-v2": _Application(
        keras.applications.ResNet50V2,
        ("conv1_conv", "conv2_block3_1_relu", "conv3_block4_1_relu", "conv4_block6_1_relu"),
        scales=False,
    ),
}


def build(config: Config, for_training: bool = False) -> keras.Model:
    """The model of `config`: see `fedpolyp.model.registry.build`."""
    application, blocks = _APPLICATIONS[config.model.encoder], Blocks(config, for_training)
    image = blocks.image()
    x = image if application.scales else blocks.rescaled(image, 1 / 127.5, -1.0)
    whole = application.network(include_top=False, weights=None, input_tensor=x)
    cut = keras.Model(image, [whole.get_layer(name).output for name in application.features])
    encoder = keras.models.clone_model(cut, clone_function=lambda layer: _as_ours(layer, blocks))
    return blocks.model(encoder.input, decode(blocks, encoder.outputs))


def pretrained(config: Config) -> Arrays:
    """The weights of the whole network without its classifier, by the names of the variables here.

    Raises:
        FedpolypError: the file of weights is not the one that the config expects, belongs to another network, or Keras
            cannot download its own.
    """
    settings, size = config.model, config.data.image_size
    application = _APPLICATIONS[settings.encoder]
    download = settings.encoder_weights == "imagenet"
    if not download:
        files.read(settings)  # reading also checks it
    try:
        network = application.network(
            include_top=False, weights="imagenet" if download else None, input_shape=(size, size, 3)
        )
        if not download:
            _load(network, settings.encoder_weights)
    except Exception as error:  # of HDF5, of Keras, of the network
        what = "Keras cannot download the weights" if download else f"{settings.encoder_weights} does not hold weights"
        said = str(error).strip().partition("\n")[0]
        raise FedpolypError(f"{what} of {settings.encoder} without its classifier: {said}") from None
    return {ENCODER + variable.path: variable.value.numpy() for variable in network.weights}


def _load(network: keras.Model, file: str) -> None:
    """Load `file` into `network`; arrays that are missing in the file, which Keras may only warn about, become NaN."""
    for variable in network.weights:
        variable.assign(np.full(variable.shape, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.load_weights(file)


def _as_ours(layer: Any, blocks: Blocks) -> Any:
    """A layer like `layer`, in the config's precision, with its own seed; for training, one of ours."""
    kind, settings = type(layer), layer.get_config()
    settings |= {"dtype": blocks.policy.name, "name": ENCODER + layer.name}
    for initializer in ("kernel_initializer", "depthwise_initializer"):
        if settings.get(initializer) is not None:
            settings[initializer] = blocks.initializer()
    if kind is layers.BatchNormalization:
        kind = blocks.encoder_normalization
        settings["momentum"] = STATISTICS_MOMENTUM
    elif kind is layers.Dropout:  # of whole branches
        settings["seed"] = blocks.seed()
    elif kind is layers.DepthwiseConv2D:
        settings["dtype"] = DEPTHWISE_PRECISION
    elif kind is layers.Conv2D and layer.use_bias and layer.activation is keras.activations.linear:
        kind = blocks.convolution_layer
    return kind.from_config(settings)
