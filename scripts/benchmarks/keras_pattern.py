"""What a program written around Keras's `fit` takes from fedpolyp: the model, the loss and a hospital's images."""

from typing import Any

import keras
import numpy as np

from fedpolyp.config import Config
from fedpolyp.data import augmentation
from fedpolyp.data.source import open_source
from fedpolyp.model.blocks import LOGITS
from fedpolyp.model.losses import segmentation_loss
from fedpolyp.model.unet import build
from fedpolyp.runs import RunFolder


def compiled(config: Config, rate: float) -> keras.Model:
    """The U-Net, built and compiled anew."""
    keras.backend.clear_session()
    whole = build(config)
    model = keras.Model(whole.input, whole.get_layer(LOGITS).output)

    def loss(truth: Any, logits: Any) -> Any:
        return segmentation_loss(
            config.training.loss, keras.ops.cast(truth, "float32"), keras.ops.reshape(logits, keras.ops.shape(truth))
        )

    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
    return model


def loaded(run: RunFolder, name: str, set: str) -> tuple[Any, Any]:
    """One hospital's images and masks of a set."""
    config = run.config()
    store = open_source(config.data, config.data_seed)
    positions = store.positions(getattr(run.partition().hospitals[name], set))
    return store.images[positions], store.masks[positions]


def augmented(run: RunFolder, name: str, number: int) -> tuple[Any, Any]:
    """One hospital's training images and masks of round `number`, augmented as fedpolyp augments them."""
    images, masks = loaded(run, name, "train")
    seed = run.config().seed
    draws = [augmentation.generator(seed, number, name, 0, row) for row in range(len(images))]
    pairs = [augmentation.augment(*pair) for pair in zip(images, masks, draws, strict=True)]
    x, y = (np.stack(part) for part in zip(*pairs, strict=True))
    return x, y
