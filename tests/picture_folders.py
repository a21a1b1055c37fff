"""Folders of images and masks, drawn for tests."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 96, 128


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A smooth RGB image of many colours."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def shape(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A mask of 0 and 1 with one ellipse, of about a tenth of its area."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    centre = int(width * rng.uniform(0.3, 0.7)), int(height * rng.uniform(0.3, 0.7))
    axes = int(width * rng.uniform(0.14, 0.2)), int(height * rng.uniform(0.14, 0.24))
    cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return mask


def encoded(pixels: NDArray[Any], suffix: str = ".png") -> bytes:
    """The content of a file; `pixels` are grey, RGB or RGBA."""
    bgr = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels
    return cv2.imencode(suffix, bgr)[1].tobytes()


def with_palette(indices: NDArray[np.uint8], *colours: tuple[int, int, int]) -> bytes:
    """The content of a PNG of `indices` of a palette that begins with `colours`."""
    image = Image.fromarray(indices).convert("L")
    image.putpalette([channel for colour in colours for channel in colour])
    return _saved(image, "PNG")


def with_orientation(pixels: NDArray[np.uint8], orientation: int, format: str = "PNG") -> bytes:
    """The content of a file whose EXIF tag says how to turn `pixels`, grey or RGB; 1 writes no tag."""
    exif = Image.Exif()
    if orientation > 1:
        exif[274] = orientation
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    return _saved(Image.fromarray(pixels), format, exif=exif, **options)


def write_pair(folder: Path, stem: str, image: bytes | None = None, mask: bytes | None = None, seed: int = 0) -> None:
    """A pair in `folder`; what is not given is drawn from `seed`, the mask of 0 and 255."""
    for part, content in (("images", image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        drawn = picture(seed) if part == "images" else 255 * shape(seed)
        (folder / part / f"{stem}.png").write_bytes(encoded(drawn) if content is None else content)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
