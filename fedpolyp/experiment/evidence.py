"""The scores that every number of a report is computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.findings import size_places
from fedpolyp.experiment.scores import HELD_OUT, LAST, Scores
from fedpolyp.experiment.statistics import Estimate, estimate


@dataclass(frozen=True)
class Evidence:
    """The data that every number is computed from."""

    scores: Scores
    partition: Partition
    heldout: tuple[str, ...]  # the held-out images with a polyp
    group_of: Mapping[str, int]  # by image; empty without a store
    sizes: NDArray[np.intp]  # (N,) of the lesion in each of `heldout`: a place in SIZES

    @classmethod
    def of(cls, scores: Scores, partition: Partition, store: Store | None) -> "Evidence":
        """The evidence in `scores`; `store` knows which images are near-duplicates of each other."""
        heldout = _with_polyp(scores, HELD_OUT, partition.heldout)
        areas = dict(zip(scores.id.tolist(), scores.area.tolist(), strict=True))
        shares = np.array([areas.get(id, 0.0) for id in heldout])
        sizes = size_places(shares)
        groups = {} if store is None else {record.id: record.group for record in store.records}
        return cls(scores, partition, heldout, groups, sizes)

    def groups(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """The group of each image; without a store, every image is a group."""
        return np.array([self.group_of[id] for id in ids] if self.group_of else range(len(ids)), np.intp)

    def values(self, arm: str, seeds: Sequence[int], kind: str, metric: str = "dice") -> NDArray[np.float64]:
        """A score by seed and held-out image, (S, N): the mean over the hospitals' models in the local arm."""
        return self.on(self.heldout, HELD_OUT, seeds, metric, arm=arm, kind=kind)

    def mean(self, ids: Sequence[str], of: str, seeds: Sequence[int], **wanted: str) -> Estimate:
        """The mean Dice in the set `of`, whose images are `ids`; over those with a polyp, unless none has one."""
        there = _with_polyp(self.scores, of, ids)
        return score(self.on(there, of, seeds, **wanted), self.groups(there))

    def without_polyp(self, arm: str) -> dict[str, float]:
        """The predictions of an arm's last models in the held-out images without a polyp, the mean over models."""
        rows = self.scores.where(arm=arm, kind=LAST, set=HELD_OUT)
        found = metrics.without_polyp(rows.counts)
        return found | {"images": len(np.unique(rows.id[rows.area == 0]))} if found else found

    def on(
        self, ids: Sequence[str], of: str, seeds: Sequence[int], metric: str = "dice", **wanted: str
    ) -> NDArray[np.float64]:
        """A score by seed and image, (S, N), in the set `of`."""
        chosen = self.scores.where(set=of, **wanted)
        try:
            return np.stack([chosen.where(seed=seed).by_image(ids, metric) for seed in seeds])
        except KeyError as error:
            what = " ".join([*wanted.values(), of])
            raise FedpolypError(f"an images.csv is incomplete: it has no row about image {error} ({what})") from None


def _with_polyp(scores: Scores, of: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The `ids` that have a polyp by the rows of the set `of`; all if none has."""
    rows = scores.where(set=of)
    there = set(rows.id[rows.area > 0].tolist())
    return tuple(id for id in ids if id in there) or tuple(ids)


def score(values: NDArray[np.float64], groups: NDArray[np.intp]) -> Estimate:
    """The mean of scores (S, N) in [0, 1] with its interval, cut to this range; `groups` (N,) are near-duplicates."""
    found = estimate(values, groups)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))
