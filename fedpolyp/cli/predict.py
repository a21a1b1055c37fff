"""`fedpolyp predict`: finds polyps in new images with trained models."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.thresholds import Threshold, refuse_threshold, threshold_of
from fedpolyp.errors import FedpolypError, UsageError

if TYPE_CHECKING:
    from fedpolyp.inference.pictures import Picture
    from fedpolyp.inference.predictor import Field, Pixels, Predictor

_BATCH = 16  # images
_ROW = ("file", "name", "width", "height", "lesions", "area", "confidence")
_LESION = ("name", "lesion", "left", "top", "width", "height", "area", "probability")
_TOLD = 10


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="pictures, folders of them, patterns, or videos")
    ],
    model: Annotated[
        list[Path],
        typer.Option(help="a finished run, or a model saved as .keras; several are averaged"),
    ],
    out: Annotated[Path, typer.Option(help="a new folder for masks/, overlays/, predictions.csv and lesions.csv")],
    which: Annotated[
        Literal["last", "best"], typer.Option(help="of a run: the model of the last round, or best on validation")
    ] = "last",
    threshold: Threshold = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="calibrate probabilities with the temperature fitted on validation")
    ] = False,
    tta: Annotated[bool, typer.Option("--tta", help="average over each image and its three mirror images")] = False,
    every: Annotated[int, typer.Option(help="of a video: use one of this many frames", min=1)] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
) -> None:
    """Find polyps in images: a mask and an overlay of each at its own size, and tables of the lesions found.

    An image is rotated upright as its EXIF tag says, and so are its mask and overlay.
    """
    import numpy as np

    from fedpolyp.inference.calibration import calibrated as with_temperature
    from fedpolyp.inference.pictures import files, pictures
    from fedpolyp.inference.predictor import Predictor
    from fedpolyp.runs import refuse_as_output

    refuse_threshold(threshold)
    refuse_as_output(out)
    left_out: list[str] = []
    named, console = files(images, left_out), PlainConsole()
    if left_out and not quiet:
        some = ", ".join(left_out[:_TOLD]) + (", …" if len(left_out) > _TOLD else "")
        console.print(f"left out (not pictures, or folders in folders): {some}", soft_wrap=True)
    predictors = [Predictor.load(place, which) for place in model]
    for predictor in () if quiet else predictors:
        console.print(predictor.introduction, soft_wrap=True)
    cut = threshold_of(predictors, threshold)
    temperatures = _temperatures(predictors) if calibrated else None
    if temperatures is not None and len(temperatures) == 1:  # the same pixels stay polyp
        cut = float(with_temperature(np.array(cut, np.float32), temperatures[0]))
    unusable: list[tuple[str, str]] = []
    began, count = time.monotonic(), 0
    with _Writer(out, len(predictors) > 1, cut) as writer:
        for batch in _batches(pictures(named, every, unusable)):
            seen = [predictor.at_own_size([picture.pixels for picture in batch], tta) for predictor in predictors]
            if temperatures is not None:
                seen = [
                    [with_temperature(field, temperature) for field in fields]
                    for fields, temperature in zip(seen, temperatures, strict=True)
                ]
            for picture, fields in zip(batch, zip(*seen, strict=True), strict=True):
                writer.write(picture, fields)
            count += len(batch)
    seconds = time.monotonic() - began
    if not quiet:
        console.print(f"{count} images, {count / seconds:.1f} a second: {out}", soft_wrap=True)
    if unusable:
        told = "; ".join(f"{file}: {why}" for file, why in unusable[:_TOLD]) + ("; …" if len(unusable) > _TOLD else "")
        raise FedpolypError(f"{len(unusable)} of {count + len(unusable)} could not be read: {told}")


def _temperatures(predictors: "Sequence[Predictor]") -> list[float]:
    """The temperature of each model.

    Raises:
        UsageError: one has none.
    """
    found = []
    for predictor in predictors:
        if predictor.temperature is None:
            raise UsageError(f"{predictor.path} has no temperature fitted on validation; leave out --calibrated")
        found.append(predictor.temperature)
    return found


def _batches(pictures: "Iterator[Picture]") -> "Iterator[list[Picture]]":
    while batch := list(islice(pictures, _BATCH)):
        yield batch


class _Writer:
    """Writes the models' predictions in pictures, and the tables at the end, also after an error."""

    def __init__(self, out: Path, several: bool, threshold: float) -> None:
        self.out, self.several, self.threshold = out, several, threshold
        self.rows: list[list[object]] = []
        self.lesions: list[list[object]] = []

    def __enter__(self) -> "_Writer":
        for part in ("masks", "overlays", *(("disagreement",) if self.several else ())):
            (self.out / part).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        from fedpolyp.cells import csv_text
        from fedpolyp.files import write_text

        headings = (*_ROW, "agreement") if self.several else _ROW
        write_text(self.out / "predictions.csv", csv_text(headings, self.rows))
        write_text(self.out / "lesions.csv", csv_text(_LESION, self.lesions))

    def write(self, picture: "Picture", fields: "Sequence[Field]") -> None:
        """Write the files of one picture; each model's probabilities are one of `fields`, (H, W) each."""
        import numpy as np

        from fedpolyp.cells import guarded
        from fedpolyp.inference.agreement import agreement, disagreement
        from fedpolyp.inference.overlay import overlay
        from fedpolyp.inference.predictor import Seen

        seen = Seen.of(np.mean(fields, axis=0, dtype=np.float32), self.threshold)
        name, (height, width) = picture.name, seen.mask.shape
        self._picture("masks", f"{name}.png", seen.mask * np.uint8(255))
        self._picture("overlays", f"{name}.jpg", overlay(picture.pixels, seen.mask))
        if self.several:
            self._picture("disagreement", f"{name}.png", disagreement(fields))
        self.rows.append(
            [
                *(guarded(picture.file), guarded(name), width, height, len(seen.lesions)),
                *(round(float(seen.mask.mean()), 6), round(seen.confidence, 4)),
                *([round(agreement([field >= self.threshold for field in fields]), 4)] if self.several else []),
            ]
        )
        for number, lesion in enumerate(seen.lesions, 1):
            box = (lesion.left, lesion.top, lesion.width, lesion.height)
            self.lesions.append([guarded(name), number, *box, round(lesion.area, 6), round(lesion.probability, 4)])

    def _picture(self, part: str, name: str, pixels: "Pixels") -> None:
        import cv2

        from fedpolyp.files import replacing

        there, encoded = cv2.imencode(Path(name).suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        assert there
        with replacing(self.out / part / name) as stream:
            stream.write(encoded.tobytes())
