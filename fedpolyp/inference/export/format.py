"""What a format has to offer: it writes a model into a folder, and says what is seen by what it has written."""

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
    """How to use the network in an export's folder: float32 in and out, any number of images unless `batch` says."""

    file: str  # the file, or the folder, that holds it, relative to the export's
    input: str = INPUT  # name of the input
    output: str = OUTPUT  # name of the output
    batch: int | None = None  # images at a time; None: any number
    channels_first: bool = False  # (N, C, H, W) in the place of (N, H, W, C)

    def shapes(self, side: int) -> tuple[list[int | None], list[int | None]]:
        """The shapes that go in and come out, for images of `side` pixels; None is any number."""

        def shape(channels: int) -> list[int | None]:
            return [self.batch, channels, side, side] if self.channels_first else [self.batch, side, side, channels]

        return shape(3), shape(1)


class Format(ABC):
    """One format. It is called as its file in the folder `formats` is."""

    needs: ClassVar[Mapping[str, str]] = {}  # what of Python's packages it needs: the module to import, by the package
    extra: ClassVar[str] = ""  # of this project, that installs them

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> Written:
        """Write the model into the empty `folder`.

        Raises:
            FedpolypError: it cannot be written so.
        """

    @abstractmethod
    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """What is seen in `squares` (N, S, S, 3) uint8 by that which lies in `folder`: (N, S, S), in [0, 1].

        Read from the disk by the program that users will have, and not by the model that it was made from.
        """

    @abstractmethod
    def reader(self) -> str:
        """The program that reads it, with its version."""


def described(written: Written, predictor: Predictor) -> dict[str, Any]:
    """What a program has to know that uses the network, as JSON has it."""
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
