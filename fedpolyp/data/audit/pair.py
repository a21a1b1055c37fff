"""What one pair of an image and its mask shows; neither file is trusted."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.alike import SIDE, Looks
from fedpolyp.data.audit.frame import Box, Image, dark_border, insets, text_lines
from fedpolyp.data.masks import MaskRule, Summary
from fedpolyp.data.orientation import Undecidable, lying_alike
from fedpolyp.data.reading import Picture, Unusable, decode_image, decode_mask, look, read, room_for, turned

_BLACK = 64  # of 255, above every pixel of a nearly black image


@dataclass(frozen=True)
class Files:
    """A pair's id and its files, by their paths in the folder."""

    id: str
    image: str
    mask: str  # '' for a frame without a polyp and without a mask
    groups: tuple[str, ...] = ()  # labels of patient, procedure or video


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a pair before it is decided which mask values are lesion."""

    files: Files
    width: int  # of the image, pixels
    height: int
    image_sha256: str
    sha256: str  # of both files, as in a store
    looks: Looks
    insets: tuple[Box, ...]
    texts: tuple[Box, ...]
    black: bool
    summary: Summary | None  # of the mask; None if there is none


@dataclass(frozen=True)
class Lesion:
    """How a mask fits its image."""

    fraction: float  # of the image
    at_border: float  # share of the outermost pixels that are lesion
    beyond: float  # share of the lesion that is on the dark border
    edge: float | None  # colour change along the outline, relative to that beside it; None if the outline is too short
    shape: bytes = b""  # digest of the mask at 256 pixels a side


def see(folder: Path, files: Files) -> Seen:
    """Look at a pair.

    Raises:
        Unusable: one of its files is unusable.
    """
    image_file = look(files.image, read(folder, files.image))
    with room_for(image_file):
        picture = decode_image(image_file)
        upright = np.ascontiguousarray(turned(picture.pixels, picture.orientation))
        height, width = upright.shape[:2]
        texts = text_lines(_at_most(upright, 1024))
        small = _resized(upright)
    summary, content = None, b""
    if files.mask:
        mask_file = look(files.mask, read(folder, files.mask))
        content = mask_file.content
        with room_for(mask_file):
            summary = Summary.of(decode_mask(mask_file))
    return Seen(
        files,
        width,
        height,
        hashlib.sha256(image_file.content).hexdigest(),
        hashlib.sha256(image_file.content + content).hexdigest(),
        Looks.of(small),
        insets(small),
        texts,
        bool(small.max() < _BLACK),
        summary,
    )


def show(folder: Path, seen: Seen, rule: MaskRule | None) -> tuple[Image, Image]:
    """The image, uint8 (256, 256, 3) RGB, and its mask in {0, 1}, uint8 (256, 256).

    Raises:
        Unusable: a file cannot be read any more, or the two do not fit.
    """
    files = seen.files
    image_file = look(files.image, read(folder, files.image))
    if seen.summary is None or rule is None:
        with room_for(image_file):
            picture = decode_image(image_file)
            return _resized(turned(picture.pixels, picture.orientation)), np.zeros((SIDE, SIDE), np.uint8)
    mask_file = look(files.mask, read(folder, files.mask))
    with room_for(image_file, mask_file):
        mask = decode_mask(mask_file)
        lesion = Picture(rule.lesion(seen.summary, mask), mask.orientation)
        try:
            pixels, outlined = lying_alike(decode_image(image_file), lesion)
        except Undecidable as error:
            raise Unusable(files.mask, str(error)) from None
        return _resized(pixels), (_resized(outlined) >= 128).astype(np.uint8)


def measure(image: Image, mask: Image) -> Lesion:
    """How `mask` fits `image`, both as `show` returns them."""
    border = dark_border(image)
    ends = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    covered = int(mask.sum())
    beyond = float((border & (mask > 0)).sum() / covered) if covered else 0.0
    shape = hashlib.sha256(mask.tobytes()).digest()
    return Lesion(float(mask.mean()), float(ends.mean()), beyond, _edge(image, mask, border), shape)


def _edge(image: Image, mask: Image, border: NDArray[np.bool_]) -> float | None:
    """Mean colour gradient within 2 pixels of the outline, divided by that 4 to 12 pixels beside it, at 256 pixels a
    side.
    """
    blurred = cv2.GaussianBlur(image, (0, 0), 2).astype(np.float32)
    across, down = (cv2.Sobel(blurred, cv2.CV_32F, x, 1 - x) for x in (1, 0))
    change = np.sqrt((across**2 + down**2).sum(2))
    change[cv2.dilate(border.astype(np.uint8), _square(9)) > 0] = 0  # the border's own edge does not belong to a lesion
    outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _square(5)) > 0
    outside = cv2.dilate(mask, _square(25)) - cv2.dilate(mask, _square(9))
    inside = cv2.erode(mask, _square(9)) - cv2.erode(mask, _square(25))
    beside = cv2.max(outside, inside) > 0
    if min(outline.sum(), beside.sum()) < 20 or change[beside].mean() < 1e-3:
        return None
    return float(change[outline].mean() / change[beside].mean())


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)


def _resized(pixels: Image) -> Image:
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _at_most(pixels: Image, side: int) -> Image:
    """`pixels` with a shorter side of at most `side`, and the same shape."""
    scale = side / min(pixels.shape[:2])
    if scale >= 1:
        return pixels
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
