"""A picture grid of a store's images, from the smallest lesion to the largest."""

from pathlib import Path

from fedpolyp.data.store import Store
from fedpolyp.report.grid import Outline, Tile, draw_grid
from fedpolyp.report.hospitals import spread
from fedpolyp.report.style import TRUTH

_COLUMNS = 6
_SIDE = 192  # pixels


def draw_samples(path: Path, store: Store, count: int = 24) -> None:
    """Draw up to `count` images of `store`, spread evenly over lesion sizes, with their lesions outlined.

    Raises:
        OSError: the file cannot be written.
    """
    ids = spread(store, tuple(record.id for record in store.records), count)
    tiles = [_tile(store, row) for row in store.positions(ids).tolist()]
    rows = [tiles[first : first + _COLUMNS] for first in range(0, len(tiles), _COLUMNS)]
    title = f"{len(tiles)} of {len(store.records)} images, by lesion area"
    draw_grid(path, rows, _SIDE, title, legend=((TRUTH, "lesion"),))


def _tile(store: Store, row: int) -> Tile:
    record = store.records[row]
    name = record.id if len(record.id) <= 28 else f"{record.id[:13]}…{record.id[-13:]}"
    return Tile(store.images[row], (Outline(store.masks[row], TRUTH),), f"{record.lesion_fraction:.1%}\n{name}")
