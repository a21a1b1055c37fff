"""What each hospital of a partition holds, and how far that is from all hospitals together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.store import Store, colour_tone

_DRAWS = 20  # random partitions to compare with
_MOST_HOSPITALS = 400  # hospitals in all random partitions together, so that a thousand hospitals take seconds

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Holding:
    """What one hospital has in its three sets together, as its camera shows it; or the held-out set."""

    name: str
    images: int
    share: float  # of all hospitals' images
    polyp_free: int  # images without a lesion
    lesions: tuple[float, float, float] | None  # quartiles of the area over images with one; None where there is none
    tone: tuple[float, float, float]  # mean red, green, blue, each in [0, 1]
    duplicates: int  # images with a near-duplicate among these
    lesion_distance: float  # Wasserstein distance of lesion areas from the pool's, in fractions of the image
    tone_distance: float  # the same for tones, mean over red, green and blue, which are in [0, 1]
    note: str  # its camera and annotation errors; '' for none


@dataclass(frozen=True)
class Composition:
    """A partition, hospital by hospital, and how skewed it is."""

    hospitals: tuple[Holding, ...]
    heldout: Holding
    lesion_distance: float  # mean over hospitals
    tone_distance: float
    lesion_distance_by_chance: float  # the same after images are shuffled, with as many images for each hospital
    tone_distance_by_chance: float

    def of(self, hospital: str) -> Holding:
        """The holding of one hospital."""
        return next(holding for holding in self.hospitals if holding.name == hospital)


def compose(partition: Partition, store: Store) -> Composition:
    """Describe a partition of the images in `store`.

    Raises:
        FedpolypError: an image is not in the store.
    """
    names = list(partition.hospitals)
    areas = [_areas(store, own.everything) for own in partition.hospitals.values()]
    tones = [_tones(store, own) for own in partition.hospitals.values()]
    all_areas, all_tones = np.concatenate(areas), np.concatenate(tones)
    held = HospitalImages((), (), partition.heldout, partition.heldout_camera)
    pool = all_areas, all_tones
    holdings = tuple(
        _holding(name, own, areas[place], tones[place], pool, store)
        for place, (name, own) in enumerate(zip(names, partition.hospitals.values(), strict=True))
    )
    return Composition(
        holdings,
        _holding("held-out", held, _areas(store, held.test), _tones(store, held), pool, store),
        float(np.mean([one.lesion_distance for one in holdings])),
        float(np.mean([one.tone_distance for one in holdings])),
        *_by_chance(all_areas, all_tones, [one.images for one in holdings]),
    )


def _holding(
    name: str, own: HospitalImages, areas: Values, tones: Values, pool: tuple[Values, Values], store: Store
) -> Holding:
    rows = store.positions(own.everything)
    groups = Counter(store.records[row].group for row in rows)
    with_lesion = areas[areas > 0]
    first, median, third = np.quantile(with_lesion, (0.25, 0.5, 0.75)).tolist() if len(with_lesion) else (0.0,) * 3
    red, green, blue = tones.mean(axis=0).tolist()
    notes = [str(part) for part in (own.camera, own.annotation) if part is not None]
    return Holding(
        name,
        len(rows),
        len(rows) / len(pool[0]),
        int((areas == 0).sum()),
        (first, median, third) if len(with_lesion) else None,
        (red, green, blue),
        sum(count for count in groups.values() if count > 1),
        *_distances(areas, tones, *pool),
        "; ".join(filter(None, notes)),
    )


def _areas(store: Store, ids: Sequence[str]) -> Values:
    return np.array([store.records[row].lesion_fraction for row in store.positions(ids)], np.float64)


def _tones(store: Store, own: HospitalImages) -> Values:
    """The tone of each of a hospital's images as its camera shows them, (N, 3)."""
    rows = store.positions(own.everything)
    if own.camera is None:
        return np.array([store.records[row].tone for row in rows], np.float64).reshape(-1, 3)
    taken = (
        own.camera.take(store.images[row : row + 1], [id])[0] for row, id in zip(rows, own.everything, strict=True)
    )
    return np.array([colour_tone(image) for image in taken], np.float64).reshape(-1, 3)


def _distances(areas: Values, tones: Values, all_areas: Values, all_tones: Values) -> tuple[float, float]:
    from scipy.stats import wasserstein_distance

    of_tones = [wasserstein_distance(tones[:, channel], all_tones[:, channel]) for channel in range(3)]
    return float(wasserstein_distance(areas, all_areas)), float(np.mean(of_tones))


def _by_chance(areas: Values, tones: Values, sizes: Sequence[int]) -> tuple[float, float]:
    """The mean distances if these images are shuffled and divided in such sizes; the same at every call."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(max(1, min(_DRAWS, _MOST_HOSPITALS // len(sizes)))):
        parts = np.split(rng.permutation(len(areas)), np.cumsum(sizes)[:-1])
        found.append(np.mean([_distances(areas[rows], tones[rows], areas, tones) for rows in parts], axis=0))
    lesion, tone = np.mean(found, axis=0).tolist()
    return lesion, tone
