"""Four decoder blocks for the features of a pretrained encoder."""

from collections.abc import Sequence

import keras

from fedpolyp.model.blocks import Blocks

# Filters of the blocks from the deepest, as multiples of `model.base_filters`.
_WIDTHS = (4.0, 3.0, 1.5, 1.0)


def decode(blocks: Blocks, features: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """The decoder's output (N, S, S, C) for `features` at strides 2, 4, 8 and 16 (N, S/stride, S/stride, C)."""
    *skips, x = features
    for number, width in zip((4, 3, 2, 1), _WIDTHS, strict=True):
        name, filters = f"decoder{number}", max(1, int(width * blocks.settings.base_filters))
        x = blocks.upsample(x, filters, name)
        if skips:  # no encoder has features at the images' own size
            x = blocks.join(x, skips.pop(), name)
        for part in (1, 2):
            x = blocks.convolution(x, filters, f"{name}_conv{part}")
    return x
