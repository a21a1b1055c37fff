"""predictions.png: the best, median and worst held-out images with truth and prediction outlined."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedpolyp.report.grid import Image, Outline, Tile, draw_grid
from fedpolyp.report.style import PREDICTION, TRUTH
from fedpolyp.text import printable

_COLUMNS = 4
_SIDE = 256  # pixels


def draw_predictions(
    path: Path, images: Image, truths: Image, predictions: Image, ids: Sequence[str], dices: NDArray[np.float64]
) -> None:
    """Draw three rows of images, chosen by their Dice.

    Args:
        path: the PNG to write.
        images: (N, S, S, 3) uint8, RGB; N at least 1.
        truths: (N, S, S) uint8 in {0, 1}.
        predictions: the same for the model's masks.
        ids: N names.
        dices: (N,) in [0, 1].

    Raises:
        OSError: the file cannot be written.
    """

    def tile(position: int) -> Tile:
        # The prediction is the thinner line: where both coincide, both are visible.
        outlines = Outline(truths[position], TRUTH, 4.0), Outline(predictions[position], PREDICTION, 2.2)
        return Tile(images[position], outlines, f"Dice {dices[position]:.2f}\n{_short(printable(ids[position]))}")

    there = np.asarray(truths.any(axis=(1, 2)))
    chosen = choose(dices, among=there)
    draw_grid(
        path,
        [[tile(position) for position in positions] for positions in chosen.values()],
        _SIDE,
        f"{len(images)} held-out images, mean Dice {dices[there].mean() if there.any() else dices.mean():.3f}",
        labels=list(chosen),
        legend=((TRUTH, "truth"), (PREDICTION, "prediction")),
    )


def choose(
    dices: NDArray[np.float64], count: int = _COLUMNS, among: NDArray[np.bool_] | None = None
) -> dict[str, list[int]]:
    """Up to `count` positions each of the best, the median and the worst of `dices` (N,), in descending order."""
    order = np.argsort(-dices, kind="stable")
    if among is not None and among.any():
        order = order[among[order]]
    order = order.tolist()
    count = min(count, len(order))
    middle = (len(order) - count) // 2
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[-count:]}


def _short(id: str) -> str:
    return id if len(id) <= 32 else f"{id[:15]}…{id[-15:]}"
