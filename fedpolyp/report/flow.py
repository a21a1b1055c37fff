"""The path of the images from the source to the sets, with every exclusion and its reason.

CLAIM 2024 and TRIPOD+AI ask for it: A. S. Tejani et al., Radiology: Artificial Intelligence 2024; G. S. Collins et al.,
BMJ 2024.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store


@dataclass(frozen=True)
class Flow:
    """The numbers of images on their path."""

    found: int | None  # pairs in the source; None if the images are gone
    excluded: tuple[tuple[str, int], ...]  # pairs that could not be used, by reason, the most frequent first
    unused: int | None  # usable images that are in no set
    sets: "tuple[OneSet, ...]"


@dataclass(frozen=True)
class OneSet:
    """The images of one set, all hospitals' together."""

    name: str
    images: int
    groups: int | None  # of near-duplicates or of a patient; None if the images are gone, like the others
    polyp_free: int | None
    lesions: tuple[float, float, float] | None  # quartiles of the lesion's share of an image, over images with one


def flow(partition: Partition, store: Store | None) -> Flow:
    """How many images went where.

    Raises:
        FedpolypError: an image is not in the store.
    """
    sets = tuple(_one_set(name, ids, store) for name, ids in _sets(partition) if ids)
    if store is None:
        return Flow(None, (), None, sets)
    report = store.report
    reasons = Counter(rejection.reason for rejection in report.rejected)
    excluded = tuple(sorted(reasons.items(), key=lambda one: (-one[1], one[0])))
    unused = len(store.records) - sum(one.images for one in sets)
    return Flow(len(store.records) + len(report.rejected), excluded, unused, sets)


def _sets(partition: Partition) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, kind in (("training", "train"), ("validation", "val"), ("test", "test")):
        yield name, tuple(id for own in partition.hospitals.values() for id in getattr(own, kind))
    yield "held out", partition.heldout
    for source, ids in partition.unseen.items():
        yield f"unseen: {source}", ids


def _one_set(name: str, ids: tuple[str, ...], store: Store | None) -> OneSet:
    if store is None:
        return OneSet(name, len(ids), None, None, None)
    rows = store.positions(ids)
    areas = np.array([store.records[row].lesion_fraction for row in rows.tolist()])
    groups = {store.records[row].group for row in rows.tolist()}
    low, middle, high = np.quantile(areas[areas > 0], (0.25, 0.5, 0.75)) if areas.any() else (0.0, 0.0, 0.0)
    quartiles = (float(low), float(middle), float(high)) if areas.any() else None
    return OneSet(name, len(ids), len(groups), int((areas == 0).sum()), quartiles)
