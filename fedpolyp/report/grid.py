"""Grids of images with outlined lesions, drawn pixel by pixel so that nothing is blurred by a layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.files import replacing

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

_GAP, _LEFT, _TOP, _CAPTION = 8, 36, 36, 44  # pixels
_FINER = 4  # borders are found on a grid this many times as fine as the picture's
_HALO = 1.0  # pixels
_DPI = 100


@dataclass(frozen=True)
class Outline:
    """The border of a mask, and how to draw it."""

    mask: Image  # (h, w) uint8 in {0, 1}
    colour: str  # "#rrggbb"
    width: float = 2.0  # pixels


@dataclass(frozen=True)
class Tile:
    """One picture of a grid with its caption, of one or two lines."""

    image: Image  # (h, w, 3) uint8, RGB
    outlines: tuple[Outline, ...]
    caption: str


def draw_grid(
    path: Path,
    rows: Sequence[Sequence[Tile]],
    side: int,
    title: str,
    labels: Sequence[str] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> None:
    """Write a PNG of `rows` of tiles, each `side` pixels wide.

    Args:
        path: the file, which is replaced as a whole.
        rows: at least one row of at least one tile.
        side: pixels.
        title: one line above all.
        labels: a word beside each row, or none.
        legend: (colour, meaning) pairs.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    left = _LEFT if labels else _GAP
    width = left + max(len(row) for row in rows) * (side + _GAP)
    height = _TOP + len(rows) * (side + _CAPTION)
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        top = _TOP + number * (side + _CAPTION)
        for place, tile in enumerate(row):
            at = left + place * (side + _GAP)
            canvas[top : top + side, at : at + side] = draw_tile(tile, side)
            x, y = (at + side / 2) / width, 1 - (top + side + 4) / height
            figure.text(x, y, tile.caption, ha="center", va="top", fontsize=9, linespacing=1.3, parse_math=False)
        if labels:
            middle = 1 - (top + side / 2) / height
            figure.text(left / 2 / width, middle, labels[number], rotation=90, ha="center", va="center", fontsize=12)
    figure.figimage(canvas)
    figure.text(left / width, 1 - 11 / height, title, va="top", fontsize=11, parse_math=False)
    if legend:
        lines = [Line2D([], [], color=colour, linewidth=3) for colour, _ in legend]
        meanings = [meaning for _, meaning in legend]
        corner = (1 - _GAP / width, 1 - 4 / height)
        figure.legend(
            lines, meanings, loc="upper right", bbox_to_anchor=corner, ncols=len(lines), frameon=False, borderaxespad=0
        )
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=_DPI)


def draw_tile(tile: Tile, side: int) -> Image:
    """The tile's image, `side` pixels wide, with its outlines, (side, side, 3) uint8."""
    smooth = cv2.INTER_CUBIC if side > tile.image.shape[0] else cv2.INTER_AREA
    picture = cv2.resize(np.asarray(tile.image), (side, side), interpolation=smooth).astype(np.float32)
    distances = [_distance(outline.mask, side) for outline in tile.outlines]
    # A dark halo keeps the outlines visible on any tissue; all halos lie below all outlines.
    for outline, distance in zip(tile.outlines, distances, strict=True):
        _draw_line(picture, distance, outline.width + 2 * _HALO, (0, 0, 0))
    for outline, distance in zip(tile.outlines, distances, strict=True):
        _draw_line(picture, distance, outline.width, [int(outline.colour[at : at + 2], 16) for at in (1, 3, 5)])
    return picture.round().astype(np.uint8)


def _draw_line(picture: Field, distance: Field, width: float, colour: Sequence[int]) -> None:
    opacity = np.clip((width + 1) / 2 - distance, 0, 1)[..., None]
    picture += opacity * (np.array(colour, np.float32) - picture)


def _distance(mask: Image, side: int) -> Field:
    """The distance of each pixel of a picture `side` pixels wide from the border of `mask`, in its pixels, (side,
    side).
    """
    finer = side * _FINER
    inside = cv2.resize(np.asarray(mask, np.float32), (finer, finer), interpolation=cv2.INTER_CUBIC) > 0.5
    # Where there is no border, OpenCV's distance is larger than any picture.
    both = [cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (inside, ~inside)]
    distance = cv2.resize((both[0] + both[1] - 0.5) / _FINER, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(distance, np.float32)
