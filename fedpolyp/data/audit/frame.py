"""Finds what is not tissue in a frame: the scope's dark border, insets in its corners, burned-in text.

Images are uint8 (H, W, 3) RGB. The numbers were chosen on Kvasir-SEG at 256 pixels a side, and checked by eye.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Where = NDArray[np.bool_]

_DARK = 24  # of 255, the brightest channel of pixels that the scope does not light
_LEAST, _MOST = 0.12, 0.6  # of the image's side: smallest and largest inset
_STRAIGHT = 0.7  # share of an inset's edge beyond which the image continues
_GREEN = 40  # how much green exceeds red: no tissue under white light is so green
_TEXT_SIDE = 512  # pixels: the shorter side is enlarged to this before text is looked for
_GLYPHS = 5  # this many side by side, of one height and on one line, are a text; highlights of the lamp are not


@dataclass(frozen=True)
class Box:
    """A rectangle, in fractions of the image's width and height."""

    left: float
    top: float
    right: float
    bottom: float


def dark_border(image: Image) -> Where:
    """Where the image is dark from its edge on, bool (H, W): the border around the scope's view."""
    dark = (cv2.GaussianBlur(image.max(2), (0, 0), 1) < _DARK).astype(np.uint8)
    count, labels = cv2.connectedComponents(dark, connectivity=4)
    at_edge = np.zeros(count, bool)
    at_edge[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    at_edge[0] = False
    return np.asarray(at_edge[labels])


def insets(image: Image) -> tuple[Box, ...]:
    """Rectangles in the corners that show something else: black ones, and green ones such as those of a scope's
    position.
    """
    border = dark_border(image)
    found = []
    for down in (False, True):
        for right in (False, True):
            corner = border[:: -1 if down else 1, :: -1 if right else 1]
            if size := _rectangle(corner):
                width, height = size
                left, top = (1 - width if right else 0.0), (1 - height if down else 0.0)
                found.append(Box(left, top, left + width, top + height))
    return (*found, *_green(image))


def _rectangle(dark: Where) -> tuple[float, float] | None:
    """Width and height, as fractions, of the dark rectangle in the first corner, if there is one.

    If the border cuts off a corner obliquely, the image does not begin along the rectangle's two other sides.
    """
    height, width = dark.shape
    reach = np.minimum.accumulate(np.where(dark.all(1), width, np.argmin(dark, 1)))
    bottom = int((reach * np.arange(1, height + 1)).argmax())
    right, bottom = int(reach[bottom]), bottom + 1
    if not (_LEAST * height <= bottom <= _MOST * height and _LEAST * width <= right <= _MOST * width):
        return None
    beside = dark[: bottom - 2, min(width - 1, right + 2)]
    below = dark[min(height - 1, bottom + 2), : right - 2]
    straight = min(1 - beside.mean(), 1 - below.mean()) > _STRAIGHT
    return (right / width, bottom / height) if straight else None


def _green(image: Image) -> list[Box]:
    red, green = (image[..., channel].astype(np.int16) for channel in (0, 1))
    found = ((green > red + _GREEN) & (green > 90)).astype(np.uint8)
    side = max(3, image.shape[0] // 28)
    found = np.asarray(cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8)))  # lines drawn in it
    boxes = []
    rows, columns = found.shape
    for left, top, width, height, area in cv2.connectedComponentsWithStats(found)[2][1:].tolist():
        large = width > _LEAST * columns * 0.8 and height > _LEAST * rows * 0.8
        in_corner = min(left, columns - left - width) < 0.1 * columns and min(top, rows - top - height) < 0.1 * rows
        if large and in_corner and area > 0.85 * width * height:
            boxes.append(Box(left / columns, top / rows, (left + width) / columns, (top + height) / rows))
    return boxes


def text_lines(image: Image) -> tuple[Box, ...]:
    """Lines of white text. Every line found is text; small text is often missed."""
    scale = max(1.0, _TEXT_SIDE / min(image.shape[:2]))
    large = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
    low, high = large.min(2), large.max(2)
    thin = cv2.morphologyEx(low, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8)) > 60
    white = (thin & (cv2.subtract(high, low) < 70) & (low > 110)).astype(np.uint8)
    glyphs = [
        (left, top, left + width, top + height)
        for left, top, width, height, area in cv2.connectedComponentsWithStats(white)[2][1:].tolist()
        if 7 <= height <= 26 and 2 <= width <= 26 and area >= 8
    ]
    glyphs.sort()
    lines, taken = [], set()
    for first in range(len(glyphs)):
        if first in taken:
            continue
        line = [first]
        for other in range(first + 1, len(glyphs)):
            last, this = glyphs[line[-1]], glyphs[other]
            height = last[3] - last[1]
            if this[0] - last[2] > 1.2 * height:
                break
            if this[0] >= last[2] - 1 and abs(this[3] - last[3]) <= 2 and abs(this[3] - this[1] - height) <= 3:
                line.append(other)
        if len(line) >= _GLYPHS:
            taken.update(line)
            corners = np.array([glyphs[place] for place in line], float)
            (left, top), (right, bottom) = corners[:, :2].min(0), corners[:, 2:].max(0)
            rows, columns = large.shape[:2]
            lines.append(Box(left / columns, top / rows, right / columns, bottom / rows))
    return tuple(lines)
