"""A saved partition with which a run begins: checked against the images that exist."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedpolyp.data.digest import files_of
from fedpolyp.data.partition.partition import MOST_BYTES, Partition, refuse_taken
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import read_bytes
from fedpolyp.names import shown, shown_few

if TYPE_CHECKING:
    from fedpolyp.config import Config, HospitalsConfig
    from fedpolyp.data.store import ImageRecord


def noted_partition(config: "Config") -> "Config":
    """`config` with the SHA-256 of the partition that it names, and the number of its hospitals; else unchanged.

    Raises:
        UsageError: there is no such partition, or it is not the one that the config expects.
    """
    wanted = config.hospitals
    if wanted.partition is None:
        return config
    partition = _read(wanted)
    changes = {"count": len(partition.hospitals), "partition_sha256": _sha256(wanted)}
    return config.model_copy(update={"hospitals": wanted.model_copy(update=changes)})


def given(records: Sequence["ImageRecord"], config: "Config") -> Partition:
    """The partition in the file `hospitals.partition`. All images that it names must exist.

    Raises:
        UsageError: there is none, it is not the one that `config` expects, or it does not fit.
    """
    wanted = config.hospitals
    partition, present = _read(wanted), {record.id for record in records}
    if config.data.unseen is not None and not partition.unseen:
        raise UsageError(
            f"{wanted.partition} leaves no source unseen, and data.unseen is '{config.data.unseen}': give it when the "
            "partition is made"
        )
    everyones = [own.everything for own in partition.hospitals.values()]
    named = {id for ids in (partition.heldout, *partition.unseen.values(), *everyones) for id in ids}
    if missing := named - present:
        raise UsageError(
            f"{wanted.partition} does not fit these {len(present)} images: {len(missing)} of the {len(named)} that it "
            f"names are not among them: {shown_few(missing)}"
        )
    return partition


def imported_partition_notes(records: Sequence["ImageRecord"], partition: Partition) -> list[str]:
    """A sentence for each fault that a partition made elsewhere may have, and one of ours does not.

    These are different images with the same ids, images that nobody has, and near-duplicates in sets that must be
    independent.
    """
    places = dict.fromkeys(partition.heldout, "the held-out set")
    places |= {id: f"the unseen {name}" for name, ids in partition.unseen.items() for id in ids}
    for name, own in partition.hospitals.items():
        places |= {id: f"{name}'s {set}" for set in ("train", "val", "test") for id in getattr(own, set)}
    groups: dict[int, list[str]] = defaultdict(list)
    for record in records:
        if record.id in places:
            groups[record.group].append(record.id)
    apart = [ids for ids in groups.values() if len({places[id] for id in ids}) > 1]
    said = []
    if partition.files not in (None, files_of(records, partition)):
        said.append(
            "the partition was made of other images than these, though they have the same ids: other files, or drawn "
            "with another seed or at another size"
        )
    if apart:
        one = ", ".join(f"{shown(id)} in {places[id]}" for id in apart[0][:3])
        said.append(
            f"{len(apart)} groups of near-duplicates or of one patient are divided between sets or hospitals: {one}"
        )
    if left := {record.id for record in records} - places.keys():
        said.append(f"{len(left)} images are in no set, and left out: {shown_few(left)}")
    return said


def _read(wanted: "HospitalsConfig") -> Partition:
    file = Path(str(wanted.partition))
    try:
        partition = Partition.load(file)
    except FedpolypError as error:
        raise UsageError(f"hospitals.partition: {error}") from None
    found = _sha256(wanted)
    if wanted.partition_sha256 not in (None, found):
        raise UsageError(
            f"the partition {file} is not the one expected: SHA-256 {found}, expected {wanted.partition_sha256}"
        )
    refuse_taken(partition.hospitals)
    if not partition.heldout or not partition.hospitals:
        there, held = len(partition.hospitals), len(partition.heldout)
        raise UsageError(f"{file} has {there} hospitals and {held} held-out images; a run needs both")
    for set in ("train", "val", "test"):
        empty = [name for name, own in partition.hospitals.items() if not getattr(own, set)]
        if empty and (set == "train" or len(empty) < len(partition.hospitals)):
            raise UsageError(f"{file} gives {shown(empty[0])} no image of the set {set}")
    return partition


def _sha256(wanted: "HospitalsConfig") -> str:
    return hashlib.sha256(read_bytes(Path(str(wanted.partition)), MOST_BYTES)).hexdigest()
