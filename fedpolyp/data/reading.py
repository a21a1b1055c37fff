"""Reads image files that may contain anything: a bad file is a reason to leave out its pair, and nothing worse.

A file is opened without waiting, must be a regular file, and is read up to a limit. Its header is checked before its
pixels are decoded.
"""

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedpolyp.data.store import Rejection

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
MAX_BYTES = 100_000_000  # of a file; a frame of 4K video takes 66 million, uncompressed with four channels of 16 bits
MAX_PIXELS = 36_000_000  # of an image, a little more than a frame of 8K video
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")
_ORIENTATION, _TILE = 274, (322, 323)  # TIFF's numbers of tags; EXIF has the first, too
_SMALL = 9_000_000  # pixels, a little more than a frame of 4K video
_LARGE = Lock()
_DAMAGED = "cannot be decoded: damaged, or not the format its name says"
T = TypeVar("T")
R = TypeVar("R")
_WITHOUT_OPENCV = ("P", "PA", "LA")  # OpenCV loses the palette's indices or the alpha channel of these


class Unusable(Exception):
    """A file that cannot be used, with the reason."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.rejection = Rejection(file, reason)


@dataclass(frozen=True)
class Picture:
    """A decoded file, its pixels in the order in which they are stored."""

    pixels: NDArray[Any]  # uint8 or uint16; (H, W), (H, W, 3) RGB or (H, W, 4) RGBA
    orientation: int  # EXIF's, 1 to 8: how to turn the pixels to see them upright; 1 where the file does not say
    palette: NDArray[np.uint8] | None = None  # (256, 3) RGB, where the pixels are indices of it
    lossy: bool = False  # JPEG: values are near what was saved


def attempted(do: Callable[[T], R], these: Sequence[T]) -> list[R | Rejection]:
    """What `do` returns for each of `these`, in parallel; the reason for those that cannot be used."""

    def attempt(one: T) -> R | Rejection:
        try:
            return do(one)
        except Unusable as unusable:
            return unusable.rejection

    with ThreadPoolExecutor() as pool:
        return list(pool.map(attempt, these))


def what_kind(mode: int) -> str:
    """What a file with this mode (`st_mode`) is, if it is not a regular file; '' if it is."""
    if stat.S_ISREG(mode):
        return ""
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a regular file"


def too_large(size: int) -> str:
    """Why a file of `size` bytes is not read; '' if it is."""
    return f"{size / 1e6:,.0f} MB large; at most {MAX_BYTES / 1e6:.0f} are read" if size > MAX_BYTES else ""


def read(folder: Path, file: str) -> bytes:
    """The content of `file` in `folder`.

    Raises:
        Unusable: it is not a regular file (or a link to one), too large, or cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(folder / file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if fault := what_kind(status.st_mode) or too_large(status.st_size):
                raise Unusable(file, fault)
            content = stream.read(MAX_BYTES + 1)  # a file may grow meanwhile
    except (OSError, ValueError) as error:
        raise Unusable(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if fault := too_large(len(content)):
        raise Unusable(file, fault)
    return content


@dataclass(frozen=True)
class Header:
    """A file of which only the header was read."""

    file: str
    content: bytes
    image: Image.Image  # its pixels are not decoded yet
    orientation: int  # EXIF's, 1 to 8

    @property
    def pixels(self) -> int:
        """How many pixels there are to decode."""
        return self.image.width * self.image.height


def look(file: str, content: bytes) -> Header:
    """The header of the picture in `file`, whose bytes are `content`.

    Raises:
        Unusable: it is damaged, or there are too many pixels, or several pages (of a TIFF; frames of an animated PNG).
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = image.size
        # Pillow's own getexif decodes a PNG to look behind its pixels.
        orientation = int(Image.Image.getexif(image).get(_ORIENTATION, 1))
        if image.format == "TIFF":
            tiles = [image.tag_v2.get(tag, 0) for tag in _TILE]  # type: ignore[attr-defined]
            width, height = max(width, int(tiles[0])), max(height, int(tiles[1]))
    except Image.DecompressionBombError:
        raise Unusable(file, f"too many pixels; at most {MAX_PIXELS:,} are decoded") from None
    except Exception:  # what a damaged header may raise is not documented
        raise Unusable(file, _DAMAGED) from None
    if width * height > MAX_PIXELS:
        raise Unusable(file, f"{width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")
    # Counting them would take long if a hostile TIFF has millions.
    if image.format in ("TIFF", "PNG") and getattr(image, "is_animated", False):
        raise Unusable(file, "it has 2 or more pages; a file must have one")
    return Header(file, content, image, orientation if 1 <= orientation <= 8 else 1)


@contextmanager
def room_for(*headers: Header) -> Iterator[None]:
    """A block in which to decode these pictures: small ones beside others, large ones one pair at a time."""
    with _LARGE if max(header.pixels for header in headers) > _SMALL else nullcontext():
        yield


def decode_image(header: Header) -> Picture:
    """An 8-bit RGB picture, whatever was stored.

    Raises:
        Unusable: it cannot be decoded.
    """
    pixels = _opencv(header, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return Picture(_as_stored(pixels, header), header.orientation)


def decode_mask(header: Header) -> Picture:
    """A picture as it was stored: 8 or 16 bits, grey or colour, with its alpha channel, or indices of a palette.

    Raises:
        Unusable: it cannot be decoded, or has pixels of another type.
    """
    image = header.image
    lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"
    if image.mode in _WITHOUT_OPENCV:
        return _pillow(header)
    pixels = _opencv(header, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return Picture(_as_stored(pixels, header), header.orientation, lossy=lossy)


@contextmanager
def silent_decoders() -> Iterator[None]:
    """Keeps OpenCV, libpng, libtiff and Pillow from printing about damaged files; the report does this better."""
    # libpng writes to the descriptor itself: OpenCV's log level does not reach it.
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _opencv(header: Header, flags: int) -> NDArray[Any]:
    pixels = _imdecode(header, flags)
    if pixels is None:  # it cannot decode fractions, or 32 bits, into a picture of 8 bits
        unchanged = _imdecode(header, cv2.IMREAD_UNCHANGED)
        pixels = unchanged if unchanged is not None and unchanged.dtype not in (np.uint8, np.uint16) else None
    if pixels is None:
        raise Unusable(header.file, _DAMAGED)
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise Unusable(header.file, f"its pixels are {pixels.dtype}; 8 or 16 bits are read, grey or in colour")
    return pixels


def _imdecode(header: Header, flags: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(header.content, np.uint8), flags)
    except (cv2.error, MemoryError):  # for most damage the answer is None
        return None


def _pillow(header: Header) -> Picture:
    image = header.image
    try:
        palette = None
        if image.mode == "P":
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(colours)] = colours
            pixels = np.array(image)
        else:
            pixels = np.array(image.convert("RGBA"))
    except Exception:  # as for the header
        raise Unusable(header.file, _DAMAGED) from None
    return Picture(_as_stored(pixels, header), header.orientation, palette)


def _as_stored(pixels: NDArray[Any], header: Header) -> NDArray[Any]:
    """OpenCV and Pillow rotate a TIFF as its tag says, whether or not they should; this undoes it."""
    return turned_back(pixels, header.orientation) if header.image.format == "TIFF" else pixels


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """`pixels`, (H, W) or (H, W, C), rotated upright, as EXIF's `orientation`, 1 to 8, says."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def turned_back(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The inverse of `turned`; a quarter turn to the right is undone by one to the left."""
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
