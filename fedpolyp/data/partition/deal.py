"""Deals images to the held-out set and to hospitals, and a hospital's to its three sets.

A group of near-duplicate images is the smallest thing dealt: it is never divided.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedpolyp.config import Config
from fedpolyp.data.partition.groups import Groups, cut
from fedpolyp.data.partition.held_out import draw_held_out, read_held_out, said_of_lists
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.partition.scheme import GROUPS_PER_HOSPITAL, Scheme
from fedpolyp.data.partition.schemes.iid import iid
from fedpolyp.data.partition.schemes.lesion_size import lesion_size
from fedpolyp.data.partition.unseen import said_of_unseen, set_apart
from fedpolyp.errors import UsageError

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord

# A stream of random numbers for each decision, so that changing one of them leaves the others as they were.
_HELD_OUT, _DEAL, _SPLIT = 1, 2, 3

SCHEMES: dict[str, Scheme] = {"iid": iid, "lesion-size": lesion_size}


def deal(records: Sequence["ImageRecord"], config: Config) -> Partition:
    """Deals all images: first the held-out set, then the rest to hospitals, then each hospital's own into three sets.

    Before that, the images of the sources in `data.unseen` are set apart, and what is nearly the same.

    The held-out set is drawn at random, `data.held_out` of the images; it depends on the seed and the images alone.
    With `data.lists` it is what val.txt lists instead, and only what train.txt lists is dealt: the authors' lists are
    kept as they are, save that a training image with a near-duplicate in val.txt is left out of everything. Listed ids
    that are not among the records are ignored; `said_of_deal` names them.

    Image counts are within the largest group's size of what they should be, unless a hospital had then fewer than
    three groups or one of its sets none. Hospitals are named so that sorting by name sorts by number.

    Raises:
        UsageError: too few images for that many hospitals, lists that cannot be read or list none of the images, or
            an unseen source that is not there.
    """
    unseen, records = set_apart(records, config.data.unseen_sources) if config.data.unseen else ({}, records)
    if config.data.lists is None:
        heldout, rest = draw_held_out(records, config.data.held_out, _rng(config, _HELD_OUT))
    else:
        heldout, rest = read_held_out(records, Path(config.data.lists))
    wanted, groups = config.hospitals, Groups.of(rest)
    most = len(groups) // GROUPS_PER_HOSPITAL
    if wanted.count > most:
        raise UsageError(
            f"hospitals.count is {wanted.count}, but besides the held-out set there are {len(rest)} images in "
            f"{len(groups)} groups (near-duplicates share one): enough for at most {most}, as each hospital needs "
            f"{GROUPS_PER_HOSPITAL} groups, one each for training, validation and test"
        )
    hospital = SCHEMES[wanted.scheme](groups, wanted.count, wanted.skew, _rng(config, _DEAL))
    shuffled = _rng(config, _SPLIT).permutation(len(groups))
    by_hospital = shuffled[np.argsort(hospital[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(hospital, minlength=wanted.count))
    digits = len(str(wanted.count))
    return Partition(
        heldout,
        {
            f"hospital-{number:0{digits}d}": _split(groups, rows, wanted.val, wanted.test)
            for number, rows in enumerate(np.split(by_hospital, ends[:-1]), start=1)
        },
        unseen,
    )


def said_of_deal(records: Sequence["ImageRecord"], config: Config) -> list[str]:
    """A sentence for each thing that a user should know of what `deal` makes of these images.

    Raises:
        UsageError: an unseen source is not there, or a list cannot be read.
    """
    if not config.data.unseen:
        return said_of_lists(records, config)
    unseen, rest = set_apart(records, config.data.unseen_sources)
    return [*said_of_unseen(records, unseen, rest), *said_of_lists(rest, config)]


def split(records: Sequence["ImageRecord"], val: float, test: float, seed: int) -> HospitalImages:
    """One hospital's own images in its three sets, where nobody deals them: at a real site.

    Raises:
        UsageError: there are not enough images for each set that should have some.
    """
    groups, wanted = Groups.of(records), 1 + (val > 0) + (test > 0)
    if len(groups) < wanted:
        raise UsageError(f"{len(records)} images in {len(groups)} groups are too few for {wanted} sets")
    rows = np.random.default_rng([seed, _SPLIT]).permutation(len(groups))
    return _split(groups, rows, val, test)


def _rng(config: Config, stream: int) -> np.random.Generator:
    return np.random.default_rng([config.data_seed, stream])


def _split(groups: Groups, rows: NDArray[np.intp], val: float, test: float) -> HospitalImages:
    sets = cut(rows, groups, [val, test, 1 - val - test], [val > 0, test > 0, 1])
    val_ids, test_ids, train_ids = map(groups.ids, sets)
    return HospitalImages(train_ids, val_ids, test_ids)
