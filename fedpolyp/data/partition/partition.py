"""A partition as it is saved: which hospital has which images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fedpolyp.algorithms.pooled import POOLED
from fedpolyp.data.annotation import Annotation
from fedpolyp.data.camera import Camera
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import read_bytes, replacing
from fedpolyp.names import check_hospital, check_id, shown

if TYPE_CHECKING:
    from fedpolyp.data.store import Store

Images = NDArray[np.uint8]

MOST_BYTES = 64 * 1024**2  # of a partition.json: 100,000 images with the longest ids

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Id = Annotated[str, AfterValidator(check_id)]
_Hospital = Annotated[str, AfterValidator(check_hospital)]


@dataclass(frozen=True)
class HospitalImages:
    """The ids of one hospital's images, each tuple sorted, with its camera and annotation errors."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # unknown fields must not be ignored

    train: tuple[_Id, ...]
    val: tuple[_Id, ...]
    test: tuple[_Id, ...]
    camera: Camera | None = None  # takes all of its images; None: they stay as in the store
    annotation: Annotation | None = None  # errors in the masks of `train` only; None: none

    @property
    def everything(self) -> tuple[str, ...]:
        """All of its images."""
        return self.train + self.val + self.test

    def seen(self, images: Images, masks: Images, ids: Sequence[str], training: bool) -> tuple[Images, Images]:
        """`images` (N, S, S, 3) and `masks` (N, S, S) as this hospital has them; `ids` are theirs.

        Args:
            images: as they are in the store.
            masks: likewise.
            ids: N of them.
            training: whether they are of its set `train`.
        """
        if self.camera is not None:
            images = self.camera.take(images, ids)
        if self.annotation is not None and training:
            masks = self.annotation.draw(masks, ids)
        return images, masks


@dataclass(frozen=True)
class Partition:
    """Which image is where, by id.

    The sorted held-out set; each hospital's images, by the hospital's name; and the sorted images of sources that no
    hospital has, by the source's name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # unknown fields must not be ignored

    heldout: tuple[_Id, ...]
    hospitals: dict[_Hospital, HospitalImages]
    unseen: dict[_Id, tuple[_Id, ...]] = field(default_factory=dict)
    heldout_camera: Camera | None = None  # takes the held-out images; None: they stay as in the store
    files: _Sha256 | None = None  # hash of the files of its images, if it was saved for later runs

    def save(self, path: Path) -> None:
        """Write `path` as JSON in one step: a reader finds the old file or all of the new one."""
        with replacing(path) as stream:
            stream.write(_JSON.dump_json(self, indent=1, exclude_none=True))

    @classmethod
    def load(cls, path: Path) -> "Partition":
        """The partition that `save` wrote to `path`.

        Raises:
            FedpolypError: the file cannot be read, is not a partition, has an image in two places or an invalid name.
        """
        try:
            partition = _JSON.validate_json(read_bytes(path, MOST_BYTES))
        except OSError as error:
            raise FedpolypError(f"cannot read the partition {path}: {error.strerror}") from None
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = shown(".".join(str(part) for part in problem["loc"])) + ": " if problem["loc"] else ""
            raise FedpolypError(f"{path} is not a partition: {where}{problem['msg']}") from None
        everyones = (images.everything for images in partition.hospitals.values())
        sets = [partition.heldout, *partition.unseen.values(), *everyones]
        repeated = [image for image, count in Counter(image for ids in sets for image in ids).items() if count > 1]
        if repeated:
            raise FedpolypError(f"{path} is not a partition: image {shown(repeated[0])} is in it more than once")
        return partition

    def heldout_of(self, store: "Store") -> tuple[Images, Images]:
        """The held-out images (N, S, S, 3) and masks (N, S, S) in `store`, as they are scored.

        Raises:
            FedpolypError: one is not in the store.
        """
        positions = store.positions(self.heldout)
        images, masks = store.images[positions], store.masks[positions]
        return (images if self.heldout_camera is None else self.heldout_camera.take(images, self.heldout)), masks


_JSON = TypeAdapter(Partition)


def refuse_taken(names: Iterable[str]) -> None:
    """
    Raises:
        UsageError: a hospital of a simulation has a name that stands for all hospitals.
    """
    if POOLED in names:
        raise UsageError(f"a hospital cannot be called '{POOLED}': this name means all hospitals together")
