"""Assigns images to the held-out set and to hospitals, and a hospital's images to its three sets.

A group of near-duplicate images is the smallest unit: it is never divided.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedpolyp.config import Config, HospitalsConfig
from fedpolyp.data.partition.answers import assigned_by, names_by
from fedpolyp.data.partition.finding import find, make
from fedpolyp.data.partition.given import given, imported_partition_notes
from fedpolyp.data.partition.groups import Groups, cut
from fedpolyp.data.partition.held_out import draw_held_out, list_notes, read_held_out
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.partition.scheme import GROUPS_PER_HOSPITAL, SETS
from fedpolyp.data.partition.unseen import set_apart, unseen_notes
from fedpolyp.errors import UsageError

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord, Store

# Each decision has its own stream of random numbers, so that changing one decision leaves the others as they were.
_HELD_OUT, _ASSIGN, _SPLIT, _CAMERAS, _HELDOUT_CAMERA, _ANNOTATIONS = 1, 2, 3, 4, 5, 6


def partition_images(records: Sequence["ImageRecord"], config: Config, store: "Store | None" = None) -> Partition:
    """Partition all images: first the held-out set, then the hospitals, then three sets within each hospital.

    Before that, the images of the sources in `data.unseen` are set apart, together with their near-duplicates.

    The held-out set is drawn at random, `data.held_out` of the images; it depends on the seed and the images alone.
    With `data.lists` it is what val.txt lists instead, and only what train.txt lists is assigned to hospitals. These
    lists are kept as they are, except that a training image with a near-duplicate in val.txt is left out of everything.
    Listed ids that are not among the records are ignored; `partition_notes` names them.

    Where a scheme assigns equal shares, the image counts differ from them by no more than the size of the largest
    group, unless a hospital would then have fewer than three groups or an empty set. With `hospitals.partition` the
    partition is what that file says.

    Args:
        records: of all images.
        config: of the experiment.
        store: where the pixels are; only schemes that look at them need it.

    Raises:
        UsageError: too few images for that many hospitals, lists or a partition that cannot be read or do not fit, an
            unseen source that is not there, or a held-out set in which no image shows a polyp.
    """
    partition = _partition(records, config, store)
    with_polyp = {record.id for record in records if record.lesion_fraction > 0}
    if partition.heldout and with_polyp.isdisjoint(partition.heldout):
        raise UsageError(
            f"none of the {len(partition.heldout)} held-out images shows a polyp, so there is no Dice to report: hold "
            "out more (--held-out), or draw other images (--data-seed)"
        )
    return partition


def _partition(records: Sequence["ImageRecord"], config: Config, store: "Store | None") -> Partition:
    wanted = config.hospitals
    if wanted.partition is not None:
        return given(records, config)
    unseen, records = set_apart(records, config.data.unseen_sources) if config.data.unseen else ({}, records)
    scheme = make(wanted)
    own_held_out = scheme.held_out(records)
    if own_held_out is not None and config.data.lists is not None:
        raise UsageError("the partition's file and data.lists both say which images are held out; give one of them")
    heldout, rest = own_held_out or _held_out(records, config)
    groups = Groups.of(rest, store, scheme.key)
    if not scheme.sets_count:
        _refuse_too_many(groups, len(rest), wanted)
    names = names_by(scheme, groups, wanted)
    hospital = assigned_by(scheme, groups, len(names), wanted, lambda: _rng(config, _ASSIGN))
    sets = scheme.sets(groups)
    _refuse_too_few(groups, hospital, names, wanted, sets)
    shuffled = _rng(config, _SPLIT).permutation(len(groups))
    by_hospital = shuffled[np.argsort(hospital[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(hospital, minlength=len(names)))
    cameras = scheme.cameras(len(names), _rng(config, _CAMERAS))
    annotations = scheme.annotations(len(names), _rng(config, _ANNOTATIONS))
    hospitals = {}
    for place, rows in enumerate(np.split(by_hospital, ends[:-1])):
        own = _split(groups, rows, wanted.val, wanted.test) if sets is None else _as_given(groups, rows, sets)
        hospitals[names[place]] = replace(own, camera=cameras[place], annotation=annotations[place])
    return Partition(heldout, hospitals, unseen, scheme.heldout_camera(_rng(config, _HELDOUT_CAMERA)))


def partition_notes(records: Sequence["ImageRecord"], config: Config, partition: Partition) -> list[str]:
    """A sentence for each thing that a user should know about the partition that `partition_images` made.

    Raises:
        UsageError: an unseen source is not there, or a list cannot be read.
    """
    said, rest = list[str](), records
    if config.data.unseen and config.hospitals.partition is None:
        unseen, rest = set_apart(records, config.data.unseen_sources)
        said = unseen_notes(records, unseen, rest)
    if config.hospitals.partition is None and not find(config.hospitals.scheme).paths:
        return [*said, *list_notes(rest, config)]
    return [*said, *imported_partition_notes(rest, partition)]


def split(records: Sequence["ImageRecord"], val: float, test: float, seed: int) -> HospitalImages:
    """One hospital's own images in its three sets, as a real site splits them.

    Each group has a place of its own, which does not depend on the others. So if an image is added, or missing, about
    one other group changes its set. A new order would train on what was for the test.

    Raises:
        UsageError: there are not enough images for each set that should have some.
    """
    groups, wanted = Groups.of(records), 1 + (val > 0) + (test > 0)
    if len(groups) < wanted:
        raise UsageError(f"{len(records)} images in {len(groups)} groups are too few for {wanted} sets")
    places = [hashlib.sha256(f"fedpolyp split {seed} {own[0]}".encode()).digest() for own in groups.images]
    return _split(groups, np.array(sorted(range(len(groups)), key=places.__getitem__), np.intp), val, test)


def counted(config: Config, partition: Partition) -> Config:
    """`config` with the number of hospitals in `partition`: not every scheme makes as many as the config asks for."""
    there = len(partition.hospitals)
    if there == config.hospitals.count:
        return config
    return config.model_copy(update={"hospitals": config.hospitals.model_copy(update={"count": there})})


def _rng(config: Config, stream: int) -> np.random.Generator:
    return np.random.default_rng([config.data_seed, stream])


def _held_out(records: Sequence["ImageRecord"], config: Config) -> tuple[tuple[str, ...], list["ImageRecord"]]:
    if config.data.lists is None:
        return draw_held_out(records, config.data.held_out, _rng(config, _HELD_OUT))
    return read_held_out(records, Path(config.data.lists))


def _refuse_too_many(groups: Groups, images: int, wanted: HospitalsConfig) -> None:
    most = min(len(groups) // GROUPS_PER_HOSPITAL, images // wanted.min_images)
    if wanted.count > most:
        least = f" and {wanted.min_images} images" if wanted.min_images > GROUPS_PER_HOSPITAL else ""
        raise UsageError(
            f"hospitals.count is {wanted.count}, but besides the held-out set there are {images} images in "
            f"{len(groups)} groups (near-duplicates share one): enough for at most {most}, as each hospital needs "
            f"{GROUPS_PER_HOSPITAL} groups, one each for training, validation and test{least}"
        )


def _refuse_too_few(
    groups: Groups,
    hospital: NDArray[np.intp],
    names: Sequence[str],
    wanted: HospitalsConfig,
    sets: NDArray[np.intp] | None,
) -> None:
    """Refuse a partition in which a hospital has fewer images than it must have, or none in a set that others have."""
    for place, name in enumerate(names):
        own = np.flatnonzero(hospital == place)
        images = int(groups.size[own].sum())
        if images < wanted.min_images or (sets is None and len(own) < GROUPS_PER_HOSPITAL):
            raise UsageError(
                f"the scheme {wanted.scheme} gives {name} {images} images in {len(own)} groups (near-duplicates share "
                f"one); a hospital needs {wanted.min_images} images (--min-images) and {GROUPS_PER_HOSPITAL} groups"
            )
        if sets is not None and (empty := np.setdiff1d(np.append(sets, 0), sets[own])).size:
            raise UsageError(f"the scheme {wanted.scheme} gives {name} no image of the set {SETS[int(empty[0])]}")


def _split(groups: Groups, rows: NDArray[np.intp], val: float, test: float) -> HospitalImages:
    sets = cut(rows, groups, [val, test, 1 - val - test], [val > 0, test > 0, 1])
    val_ids, test_ids, train_ids = map(groups.ids, sets)
    return HospitalImages(train_ids, val_ids, test_ids)


def _as_given(groups: Groups, rows: NDArray[np.intp], sets: NDArray[np.intp]) -> HospitalImages:
    train, val, test = (groups.ids(rows[sets[rows] == place]) for place in range(len(SETS)))
    return HospitalImages(train, val, test)
