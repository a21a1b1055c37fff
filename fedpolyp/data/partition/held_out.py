"""The held-out set: drawn at random, or as the authors of the images list it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedpolyp.config import Config
from fedpolyp.data.partition.groups import Groups, cut
from fedpolyp.errors import UsageError
from fedpolyp.files import read_bytes
from fedpolyp.names import shown_few

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord

_MOST_BYTES = 64 * 1024**2  # of a list


def draw_held_out(
    records: Sequence["ImageRecord"], fraction: float, rng: np.random.Generator
) -> tuple[tuple[str, ...], list["ImageRecord"]]:
    """The ids of a random `fraction` of the images, sorted, and the records of the rest."""
    groups = Groups.of(records)
    order = rng.permutation(len(groups))
    chosen, _ = cut(order, groups, [fraction, 1 - fraction], [1, 1])
    heldout = groups.ids(chosen)
    held = set(heldout)
    return heldout, [record for record in records if record.id not in held]


def list_notes(records: Sequence["ImageRecord"], config: Config) -> list[str]:
    """A sentence for each entry in the lists of `data.lists` that `partition_images` does not follow.

    Raises:
        UsageError: a list cannot be read.
    """
    if config.data.lists is None:
        return []
    files = [Path(config.data.lists) / name for name in ("val.txt", "train.txt")]
    val, train = map(_listed, files)
    present = {record.id for record in records}
    said = []
    for path, listed in zip(files, (val, train), strict=True):
        if lost := listed - present:
            said.append(f"{len(lost)} of {len(listed)} ids in {path} belong to no usable image: {shown_few(lost)}")
    if both := val & train & present:
        said.append(f"{len(both)} images are in both lists, and held out: {shown_few(both)}")
    seen = {record.group for record in records if record.id in val}
    if alike := {record.id for record in records if record.id in train - val and record.group in seen}:
        said.append(
            f"{len(alike)} images of train.txt are near-duplicates of val.txt's, and left out: {shown_few(alike)}"
        )
    if unlisted := present - val - train:
        said.append(f"{len(unlisted)} images are in neither list, and left out: {shown_few(unlisted)}")
    return said


def read_held_out(records: Sequence["ImageRecord"], lists: Path) -> tuple[tuple[str, ...], list["ImageRecord"]]:
    """The sorted ids that val.txt in the folder `lists` names, and the records of train.txt's images that may be used.

    Raises:
        UsageError: a list cannot be read, or names none of the images.
    """
    present = {record.id for record in records}
    val, train = (_read_ids(lists / name, present) for name in ("val.txt", "train.txt"))
    seen = {record.group for record in records if record.id in val}
    return tuple(sorted(val)), [record for record in records if record.id in train and record.group not in seen]


def _read_ids(path: Path, present: set[str]) -> set[str]:
    listed = _listed(path)
    if not listed & present:
        raise UsageError(
            f"data.lists: none of the {len(listed)} ids in {path} is among the {len(present)} images "
            "(an id is a file name without its ending)"
        )
    return listed & present


def _listed(path: Path) -> set[str]:
    try:
        lines = read_bytes(path, _MOST_BYTES).decode("utf-8-sig").splitlines()  # with a byte-order mark or without
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(f"data.lists: cannot read {path} as a list of image ids, one in each line: {why}") from None
    return {line.strip() for line in lines} - {""}
