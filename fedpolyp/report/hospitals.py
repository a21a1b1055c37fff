"""A picture of a partition: for each hospital a row with some of its images and the sizes of its lesions."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.composition import Composition, Holding
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.store import Store
from fedpolyp.files import replacing
from fedpolyp.report.grid import Outline, Tile, draw_tile
from fedpolyp.report.style import BLUE, TRUTH
from fedpolyp.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HOSPITALS_DRAWN = 12
_SIDE, _GAP, _LEFT, _TOP, _HISTOGRAM, _BOTTOM = 112, 6, 200, 44, 230, 40  # pixels
_DPI = 100
_SMALLEST, _LARGEST = 0.003, 1.0  # of the image: the axis of lesion areas
_EDGES = np.geomspace(_SMALLEST, _LARGEST, 17)
_TICKS = (0.01, 0.05, 0.2, 0.5)


def draw_hospitals(path: Path, partition: Partition, store: Store, composition: Composition, count: int = 6) -> None:
    """Draw up to `count` training images of each of the first 12 hospitals, then of the held-out set.

    They are shown as the hospital's camera takes them and as its annotator outlines them, from the smallest lesion to
    the largest. Beside them is a histogram of the areas of all its lesions, with the pool's as a grey line.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = composition.hospitals[:HOSPITALS_DRAWN]
    held = HospitalImages(partition.heldout, (), (), partition.heldout_camera)
    rows = [(one, partition.hospitals[one.name]) for one in shown] + [(composition.heldout, held)]
    pool = _areas(store, [id for own in partition.hospitals.values() for id in own.everything])
    width = _LEFT + count * (_SIDE + _GAP) + _HISTOGRAM
    height = _TOP + len(rows) * (_SIDE + _GAP) + _BOTTOM
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    canvas = np.full((height, width, 3), 255, np.uint8)
    for number, (holding, own) in enumerate(rows):
        top = _TOP + number * (_SIDE + _GAP)
        for place, tile in enumerate(_tiles(store, own, count)):
            left = _LEFT + place * (_SIDE + _GAP)
            canvas[top : top + _SIDE, left : left + _SIDE] = draw_tile(tile, _SIDE)
        middle = 1 - (top + _SIDE / 2) / height
        figure.text(8 / width, middle, _label(holding), va="center", fontsize=8, linespacing=1.35, parse_math=False)
        box = ((width - _HISTOGRAM + 14) / width, 1 - (top + _SIDE - 4) / height)
        axes = figure.add_axes((*box, (_HISTOGRAM - 28) / width, (_SIDE - 12) / height), zorder=1)
        _draw_histogram(axes, _areas(store, own.everything), pool, last=number == len(rows) - 1)
    figure.figimage(canvas, zorder=-1)
    more = len(composition.hospitals) - len(shown)
    title = f"{len(composition.hospitals)} hospitals" + (f", the first {len(shown)} of them" if more else "")
    figure.text(8 / width, 1 - 14 / height, title, va="top", fontsize=12, weight="bold")
    figure.text(
        (width - _HISTOGRAM + 14) / width, 1 - 14 / height, "lesion area (grey: all hospitals)", va="top", fontsize=9
    )
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=_DPI)


def spread(store: Store, ids: tuple[str, ...], count: int) -> list[str]:
    """Up to `count` of `ids`, spread evenly from the smallest lesion to the largest."""
    rows = sorted(store.positions(ids).tolist(), key=lambda row: store.records[row].lesion_fraction)
    steps = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    return [store.records[rows[round(step)]].id for step in steps]


def _tiles(store: Store, own: HospitalImages, count: int) -> list[Tile]:
    ids = spread(store, own.train, count)
    rows = store.positions(ids)
    images, masks = own.seen(store.images[rows], store.masks[rows], ids, training=True)
    return [Tile(image, (Outline(mask, TRUTH),), "") for image, mask in zip(images, masks, strict=True)]


def _label(holding: Holding) -> str:
    lesions = "no lesions" if holding.lesions is None else f"median lesion {holding.lesions[1]:.1%}"
    lines = [printable(holding.name, 26), f"{holding.images} images", lesions]
    return "\n".join([*lines, *textwrap.wrap(holding.note, 32)])


def _areas(store: Store, ids: tuple[str, ...] | list[str]) -> NDArray[np.float64]:
    return np.array([store.records[row].lesion_fraction for row in store.positions(ids)], np.float64)


def _draw_histogram(axes: "Axes", areas: NDArray[np.float64], pool: NDArray[np.float64], last: bool) -> None:
    """Shares of the images by lesion area, frames without a lesion in the first bar."""
    own, whole = (np.histogram(np.clip(of, _SMALLEST, _LARGEST), _EDGES)[0] / max(1, len(of)) for of in (areas, pool))
    axes.stairs(own, _EDGES, fill=True, color=BLUE, alpha=0.75)
    axes.stairs(whole, _EDGES, color="#777777", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlim(_SMALLEST, _LARGEST)
    axes.set_ylim(0, max(0.3, 1.1 * own.max(), 1.1 * whole.max()))
    axes.set_yticks([])
    axes.set_xticks(_TICKS, [f"{tick:.0%}" for tick in _TICKS] if last else [], fontsize=8)
    axes.set_xticks([], minor=True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
