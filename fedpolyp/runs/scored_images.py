"""The rows of images.csv: one for each scored image and model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp.cells import csv_text, guarded

_COLUMNS = ("arm", "seed", "model", "round", "set", "id", "tp", "fp", "fn", "tn", "hd95")


def model_name(kind: str, hospital: str = "") -> str:
    """A model's name in images.csv: 'last', 'best' (on validation) or 'own' (fine-tuned after the last round).

    With its hospital, if each hospital has one.
    """
    return f"{kind}:{hospital}" if hospital else kind


@dataclass(frozen=True)
class ScoredImage:
    """One row of images.csv."""

    arm: str
    seed: int
    model: str  # see `model_name`
    round: int
    set: str  # 'heldout', 'val:<hospital>', 'test:<hospital>', 'unseen:<source>'
    id: str
    counts: tuple[int, int, int, int]  # tp, fp, fn, tn
    hd95: float  # fraction of the image diagonal


# A set of images that one model has scored: the set's name, ids, counts (N, 4) and distances (N,).
ScoredSet = tuple[str, Sequence[str], NDArray[np.int64], NDArray[np.float64]]


def scored_images(
    arm: str,
    seed: int,
    model: str,
    round: int,
    set: str,
    ids: Sequence[str],
    counts: NDArray[np.int64],
    hd95: NDArray[np.float64],
) -> list[ScoredImage]:
    """The rows of one model on one set: `counts` (N, 4) and `hd95` (N,) in the order of `ids`."""
    return [
        ScoredImage(arm, seed, model, round, set, id, (int(tp), int(fp), int(fn), int(tn)), float(distance))
        for id, (tp, fp, fn, tn), distance in zip(ids, counts, hd95, strict=True)
    ]


def images_csv(rows: Iterable[ScoredImage]) -> str:
    """The text of images.csv."""
    return csv_text(_COLUMNS, map(_cells, rows))


def _cells(row: ScoredImage) -> tuple[object, ...]:
    model, of, id = (guarded(name) for name in (row.model, row.set, row.id))
    return row.arm, row.seed, model, row.round, of, id, *row.counts, f"{row.hd95:.6f}"
