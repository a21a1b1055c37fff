"""Identifies a run's images by hashes: of the partition, of the files, and of the pixels as they are used."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import ImageRecord, Store


@dataclass(frozen=True)
class Digest:
    """SHA-256 of each; None if the run has no images of its own, at real sites without a held-out set.

    Each hash is over the images of the partition in the order of their ids. The folder's path and other files do not
    count.
    """

    partition: str  # which image is in which set
    files: str | None  # the partition, and the images' and masks' files as they were ingested
    images: str | None  # the pixels in the store
    masks: str | None  # the same for masks

    @classmethod
    def of(cls, partition: Partition, store: Store | None) -> Self:
        """The digest of a partition and of its images in `store`; takes about a second for each gigabyte.

        Raises:
            FedpolypError: an image is not in the store.
        """
        ids = _ids(partition)
        if store is None or not ids:
            return cls(_of_partition(partition), None, None, None)
        rows = store.positions(ids)
        return cls(
            _of_partition(partition),
            files_digest(store, partition),
            *(_of_pixels(ids, array, rows) for array in (store.images, store.masks)),
        )

    def change(self, now: "Digest") -> str:
        """What has changed between this and `now`, as a clause; '' if nothing changed that decides a bit."""
        if self.partition != now.partition:
            return "its partition.json has changed since it began"
        other = [name for name in ("images", "masks") if getattr(self, name) != getattr(now, name)]
        if not other:
            return ""
        what = f"its {' and '.join(other)} have changed since it began"
        same = " (their files are the same: the store was changed, or is made in another way)"
        return what + (same if self.files == now.files else "")

    def to_plain(self) -> dict[str, str | None]:
        """What `from_plain` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: object) -> Self:
        """The digest that `to_plain` gave.

        Raises:
            ValueError: it is none.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(plain, dict) or not names <= plain.keys() or not isinstance(plain["partition"], str):
            raise ValueError(f"a digest has {', '.join(sorted(names))}")
        if not all(plain[name] is None or isinstance(plain[name], str) for name in names):
            raise ValueError("a digest's values are hashes")
        return cls(**{name: plain[name] for name in names})


def files_digest(store: Store, partition: Partition) -> str:
    """SHA-256 of `partition`, and of what `store` knows of the files of each image in it; reads no pixel."""
    return files_of(store.records, partition)


def files_of(records: Sequence[ImageRecord], partition: Partition) -> str:
    """The same, by the images' records."""
    known = {record.id: record.sha256 for record in records}
    return _sha256([_of_partition(partition), [[id, known.get(id)] for id in _ids(partition)]])


def _ids(partition: Partition) -> list[str]:
    everyones = (own.everything for own in partition.hospitals.values())
    sets = [partition.heldout, *partition.unseen.values(), *everyones]
    return sorted(id for ids in sets for id in ids)


def _of_partition(partition: Partition) -> str:
    hospitals = [[name, own.train, own.val, own.test] for name, own in sorted(partition.hospitals.items())]
    unseen = [[name, ids] for name, ids in sorted(partition.unseen.items())]
    return _sha256([partition.heldout, hospitals, *([unseen] if unseen else []), *_changes_to_images(partition)])


def _changes_to_images(partition: Partition) -> list[object]:
    """What cameras and annotations there are; nothing where there are none."""
    found: dict[str, object] = {}
    for name, own in sorted(partition.hospitals.items()):
        own_changes = {"camera": own.camera, "annotation": own.annotation}
        if said := {what: dataclasses.asdict(one) for what, one in own_changes.items() if one is not None}:
            found[name] = said
    if partition.heldout_camera is not None:
        found[""] = dataclasses.asdict(partition.heldout_camera)
    return [found] if found else []


def _of_pixels(ids: list[str], array: NDArray[np.uint8], rows: NDArray[np.intp]) -> str:
    digest = hashlib.sha256(str(array.shape[1:]).encode())
    for id, row in zip(ids, rows.tolist(), strict=True):
        digest.update(json.dumps(id).encode())
        digest.update(np.ascontiguousarray(array[row]).data)
    return digest.hexdigest()


def _sha256(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
