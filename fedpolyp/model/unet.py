"""The plain U-Net: four encoder blocks, a bridge, four decoder blocks (Ronneberger et al., MICCAI 2015)."""

import keras
from keras import layers

from fedpolyp.config import Config
from fedpolyp.model.blocks import Blocks

DEPTH = 4


def build(config: Config, for_training: bool = False) -> keras.Model:
    """The U-Net of `config`: uint8 or float images (N, S, S, 3) in 0..255 in, lesion probability (N, S, S, 1) out.

    Initial weights depend only on `config.seed`. It is made of Keras's own layers, so that Keras alone can read a saved
    model, or, `for_training`, of ours with the same names and weights.
    """
    blocks = Blocks(config, for_training)
    image = blocks.image()
    x = blocks.rescaled(image, 1 / 255)
    skips = []
    for level in range(DEPTH):
        x = _block(blocks, x, level, f"encoder{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"encoder{level + 1}_pool")(x)
    x = _block(blocks, x, DEPTH, "bridge")
    for level in reversed(range(DEPTH)):
        name = f"decoder{level + 1}"
        x = blocks.upsample(x, _filters(blocks, level), name)
        x = blocks.join(x, skips[level], name)
        x = _block(blocks, x, level, name)
    return blocks.model(image, x)


def _filters(blocks: Blocks, level: int) -> int:
    return blocks.settings.base_filters * 2**level


def _block(blocks: Blocks, x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
    first, last = blocks.settings.dropout
    x = blocks.convolution(x, _filters(blocks, level), f"{name}_conv1")
    x = blocks.dropout(x, first + (last - first) * level / DEPTH, f"{name}_dropout")
    return blocks.convolution(x, _filters(blocks, level), f"{name}_conv2")
