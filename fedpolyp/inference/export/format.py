"""The base class of formats: a format writes a model into a folder, and predicts with what it has written."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels, Predictor

INPUT, OUTPUT = "image", "probability"


@dataclass(frozen=True)
class Written:
    """How to use the network in an export's folder: float32 in and out, any number of images unless `batch` says
    otherwise.
    """

    file: str  # the file, or the folder, that holds it, relative to the export's
    input: str = INPUT  # name of the input
    output: str = OUTPUT  # name of the output
    batch: int | None = None  # images at a time; None: any number
    channels_first: bool = False  # (N, C, H, W) instead of (N, H, W, C)

    def shapes(self, side: int) -> tuple[list[int | None], list[int | None]]:
        """The shapes of input and output, for images of `side` pixels; None is any number."""

        def shape(channels: int) -> list[int | None]:
            return [self.batch, channels, side, side] if self.channels_first else [self.batch, side, side, channels]

        return shape(3), shape(1)


class Format(ABC):
    """One format. It has the name of its file in the folder `formats`."""

    needs: ClassVar[Mapping[str, str]] = {}  # the Python packages it needs: the module to import, by the package
    extra: ClassVar[str] = ""  # this project's extra that installs them

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> Written:
        """Write the model into the empty `folder`.

        Raises:
            FedpolypError: it cannot be written in this format.
        """

    @abstractmethod
    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The probabilities (N, S, S), in [0, 1], for `squares` (N, S, S, 3) uint8, from the export in `folder`.

        The export is read from the disk by the program that users will have, not taken from the model.
        """

    @abstractmethod
    def reader(self) -> str:
        """The program that reads it, with its version."""


def described(written: Written, predictor: Predictor) -> dict[str, Any]:
    """What a program must know to use the network, for JSON."""
    side = predictor.image_size
    into, out = written.shapes(side)
    layout = "NCHW" if written.channels_first else "NHWC"
    return {
        "input": {
            "name": written.input,
            "dtype": "float32",
            "shape": into,
            "layout": layout,
            "colours": "RGB",
            "range": [0, 255],
            "preprocessing": f"resize the whole image to {side} x {side} pixels by area (OpenCV: INTER_AREA), whatever "
            "its proportions; keep values from 0 to 255: the network scales them itself",
        },
        "output": {
            "name": written.output,
            "dtype": "float32",
            "shape": out,
            "layout": layout,
            "range": [0, 1],
            "meaning": "probability that a pixel is polyp",
            "postprocessing": "resize to the image's own size bilinearly, then cut at the threshold",
        },
        "threshold": predictor.threshold,
        "threshold_of_validation": predictor.best_threshold,
        "temperature_of_validation": predictor.temperature,  # by which logits may be divided
    }
