"""A picture grid of a store's images, from the smallest lesion to the largest."""

from pathlib import Path

import numpy as np

from fedpolyp.data.store import Store
from fedpolyp.report.grid import Outline, Tile, draw_grid
from fedpolyp.report.style import TRUTH

_COLUMNS = 6
_SIDE = 192  # pixels


def draw_samples(path: Path, store: Store, count: int = 24) -> None:
    """Draw up to `count` images of `store`, spread evenly over lesion sizes, with their lesions outlined.

    Raises:
        OSError: the file cannot be written.
    """
    by_size = sorted(range(len(store.records)), key=lambda row: store.records[row].lesion_fraction)
    steps = np.linspace(0, len(by_size) - 1, min(count, len(by_size)))
    tiles = [_tile(store, by_size[round(step)]) for step in steps]
    rows = [tiles[first : first + _COLUMNS] for first in range(0, len(tiles), _COLUMNS)]
    draw_grid(path, rows, _SIDE, f"{len(tiles)} of {len(by_size)} images, by lesion area", legend=((TRUTH, "lesion"),))


def _tile(store: Store, row: int) -> Tile:
    record = store.records[row]
    name = record.id if len(record.id) <= 28 else f"{record.id[:13]}…{record.id[-13:]}"
    return Tile(store.images[row], (Outline(store.masks[row], TRUTH),), f"{record.lesion_fraction:.1%}\n{name}")
