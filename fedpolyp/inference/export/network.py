"""What all converters are given: the model with float32 in and out, by name; and silence while they work."""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedpolyp.errors import FedpolypError
from fedpolyp.inference.export.format import INPUT, OUTPUT
from fedpolyp.inference.export.subject import Subject


def network(subject: Subject, channels_first: bool = False) -> Any:
    """A Keras model from float32 images in 0..255, named `INPUT`, to probabilities, named `OUTPUT`.

    They are (N, S, S, C), or with `channels_first` (N, C, S, S).
    """
    import keras

    side = subject.predictor.image_size
    image = keras.Input((3, side, side) if channels_first else (side, side, 3), name=INPUT, dtype="float32")
    x = keras.layers.Permute((2, 3, 1), name="channels_last")(image) if channels_first else image
    x = subject.predictor.model(x)
    if channels_first:
        x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return keras.Model(image, {OUTPUT: x}, name="polyp")


def signature(side: int, batch: int | None = None, channels_first: bool = False) -> list[Any]:
    """What Keras's exporters are told of the input."""
    import keras

    shape = (batch, 3, side, side) if channels_first else (batch, side, side, 3)
    return [keras.InputSpec(shape=shape, dtype="float32", name=INPUT)]


@contextmanager
def converting(subject: Subject, to: str) -> Iterator[None]:
    """Keep what converters print away from the terminal, and say in one sentence what they raise.

    Raises:
        FedpolypError: the block raised something else than an error of the disk.
    """
    try:
        with _silence():
            yield
    except (OSError, FedpolypError):
        raise
    except Exception as error:  # converters do not document what they raise
        why = " ".join(str(error).split())[:200]
        raise FedpolypError(
            f"{subject.predictor.path} cannot be converted to {to}: {type(error).__name__}: {why}"
        ) from None


@contextmanager
def _silence() -> Iterator[None]:
    """Converters print from Python and from C++, whatever they are told."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, disabled = [os.dup(1), os.dup(2)], logging.root.manager.disable
    try:
        with tempfile.TemporaryFile() as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        logging.disable(disabled)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, terminal in zip((1, 2), kept, strict=True):
            os.dup2(terminal, number)
            os.close(terminal)
