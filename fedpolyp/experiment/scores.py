"""The scored images of many runs as one table of columns."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.cells import unguarded
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes
from fedpolyp.names import shown
from fedpolyp.runs import RunFolder

HELD_OUT = "heldout"
_MOST_BYTES = 1024**3  # of an images.csv that is read
LAST, BEST, OWN = "last", "best", "own"  # own: each hospital's fine-tuned version of the last model
METRICS = (*metrics.OVERLAPS, "hd95")


@dataclass(frozen=True, eq=False)
class Scores:
    """One row for each scored image and model; every column has the same length N."""

    arm: NDArray[np.str_]  # the arm's label
    seed: NDArray[np.int64]
    kind: NDArray[np.str_]  # 'last', 'best' or 'own'
    trainer: NDArray[np.str_]  # the hospital whose own model it is; '' for a model of all
    round: NDArray[np.int64]
    set: NDArray[np.str_]  # 'heldout', 'test:<hospital>', 'val:<hospital>' or 'unseen:<source>'
    id: NDArray[np.str_]
    counts: NDArray[np.int64]  # (N, 4): tp, fp, fn, tn
    hd95: NDArray[np.float64]  # fraction of the image diagonal

    def where(self, **wanted: str | int) -> Self:
        """The rows whose columns have these values: `where(arm="pooled", set="heldout")`."""
        rows = np.ones(len(self.id), bool)
        for column, value in wanted.items():
            rows &= getattr(self, column) == value
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def score(self, metric: str) -> NDArray[np.float64]:
        """One of `METRICS` for every row, (N,) in [0, 1]."""
        return self._scores[metric]

    @cached_property
    def _scores(self) -> dict[str, NDArray[np.float64]]:
        return {name: score(self.counts) for name, score in metrics.OVERLAPS.items()} | {"hd95": self.hd95}

    @property
    def area(self) -> NDArray[np.float64]:
        """The lesion's share of each image in the true mask, (N,) in [0, 1]."""
        return np.asarray((self.counts[:, 0] + self.counts[:, 2]) / self.counts.sum(axis=1))

    @property
    def over_pixels(self) -> float:
        """Dice of all rows' pixels together, in [0, 1]: large lesions weigh more than in the mean over images."""
        return float(metrics.dice(self.counts.sum(axis=0, keepdims=True))[0])

    def by_image(self, ids: Iterable[str], metric: str = "dice") -> NDArray[np.float64]:
        """A score of each image, (len(ids),), the mean over all rows of that image.

        Raises:
            KeyError: an image is in no row.
        """
        names, rows = np.unique(self.id, return_inverse=True)
        means = np.bincount(rows, self.score(metric)) / np.bincount(rows)
        place = {str(name): row for row, name in enumerate(names)}
        return np.array([means[place[id]] for id in ids])


def read_scores(runs: Iterable[RunFolder]) -> Scores:
    """The images.csv of all `runs`, one after the other.

    An arm is named by its run's config.

    Raises:
        FedpolypError: a file is missing, damaged or without rows.
    """
    tables = [_read(run) for run in runs]
    return Scores(**{field.name: np.concatenate([getattr(t, field.name) for t in tables]) for field in fields(Scores)})


def _read(run: RunFolder) -> Scores:
    path = run.images_file
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path, _MOST_BYTES).decode(), newline=""))
        columns: dict[str, list[str]] = {name: [] for name in reader.fieldnames or ()}
        for row in reader:
            for name, values in columns.items():
                values.append(row[name])
        return _table(columns, run.config(), run.partition())
    except OSError as error:
        raise FedpolypError(f"cannot read {path}: {error.strerror}") from None
    except KeyError as error:
        raise FedpolypError(f"{path} is damaged: it has no column {error}") from None
    except (ValueError, TypeError, OverflowError, csv.Error) as error:
        raise FedpolypError(f"{path} is damaged: {error}") from None


def _table(columns: dict[str, list[str]], config: Config, partition: Partition) -> Scores:
    """The columns of one run's file, which somebody else may have written.

    Raises:
        ValueError: a value is impossible, or a row is about an image, a hospital or a round that the run does not have.
        KeyError: a column is missing.
    """
    columns |= {name: [unguarded(cell) for cell in columns[name]] for name in ("model", "set", "id")}
    counts = np.array([[int(n) for n in columns[name]] for name in ("tp", "fp", "fn", "tn")], np.int64).T
    distances = np.array([float(text) for text in columns["hd95"]])
    models = [model.partition(":") for model in columns["model"]]
    if not models:
        raise ValueError("it has no rows")
    if strange := {kind for kind, _, _ in models} - {LAST, BEST, OWN}:
        raise ValueError(f"its models must be last, best or own, with or without a hospital; got {shown(min(strange))}")
    pixels = config.data.image_size**2
    # Each before the sum, which could wrap around.
    if not ((counts >= 0) & (counts <= pixels)).all() or (counts.sum(axis=1) != pixels).any():
        raise ValueError(f"a row does not count the {pixels} pixels of an image")
    if not ((distances >= 0) & (distances <= 1)).all():
        raise ValueError("a row has a distance that is not a fraction of the image's diagonal")
    seeds, rounds = ([int(text) for text in columns[name]] for name in ("seed", "round"))
    if set(seeds) != {config.seed} or min(rounds) < 0 or max(rounds) > config.federation.rounds:
        raise ValueError("a row is of a seed or a round that the run does not have")
    rows = list(zip(columns["model"], columns["set"], columns["id"], strict=True))
    if len(set(rows)) < len(rows):
        raise ValueError("two rows are about one image and one model")
    for hospital in {hospital for _, _, hospital in models} - {""}:
        if hospital not in partition.hospitals:
            raise ValueError(f"a row is about the model of {shown(hospital)}, which is not a hospital of the run")
    for of in sorted(set(columns["set"])):
        ids = {id for _, own, id in rows if own == of}
        if strange := ids - _allowed(of, ids, partition):
            raise ValueError(f"it has a row about {shown(min(strange))} in {shown(of)}, which the run does not have")
    return Scores(
        arm=np.full(len(models), config.label),
        seed=np.array(seeds, np.int64),
        kind=np.array([kind for kind, _, _ in models]),
        trainer=np.array([hospital for _, _, hospital in models]),
        round=np.array(rounds, np.int64),
        set=np.array(columns["set"]),
        id=np.array(columns["id"]),
        counts=counts,
        hd95=distances,
    )


def _allowed(of: str, ids: set[str], partition: Partition) -> set[str]:
    """The `ids` that the run may have scored in the set `of`: all, if only somebody else knows the set's images."""
    kind, _, hospital = of.partition(":")
    if of == HELD_OUT:
        return ids & set(partition.heldout)
    if kind == "unseen":
        return ids & set(partition.unseen.get(hospital, ()))
    if kind not in ("val", "test"):
        return set()
    own = partition.hospitals.get(hospital)
    if own is None:
        return set()
    known = any((own.train, own.val, own.test))  # real sites do not say
    return ids & set(own.val if kind == "val" else own.test) if known else ids
