"""Who got which images, as it is saved."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, TypeAdapter, ValidationError

from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes, replacing
from fedpolyp.names import check_hospital, check_id, shown

_MOST_BYTES = 64 * 1024**2  # of a partition.json: 100,000 images with the longest ids

_Id = Annotated[str, AfterValidator(check_id)]
_Hospital = Annotated[str, AfterValidator(check_hospital)]


@dataclass(frozen=True)
class HospitalImages:
    """The ids of one hospital's images, each tuple sorted."""

    train: tuple[_Id, ...]
    val: tuple[_Id, ...]
    test: tuple[_Id, ...]


@dataclass(frozen=True)
class Partition:
    """Which image is where, by id.

    The held-out set, sorted; each hospital's by the hospital's name; and those of sources that no hospital has, sorted,
    by the source's name.
    """

    heldout: tuple[_Id, ...]
    hospitals: dict[_Hospital, HospitalImages]
    unseen: dict[_Id, tuple[_Id, ...]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write `path` as JSON in one step: a reader finds the old file or all of the new one."""
        with replacing(path) as stream:
            stream.write(_JSON.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> "Partition":
        """The partition that `save` wrote to `path`.

        Raises:
            FedpolypError: the file cannot be read, is no partition, has an image in two places or a name that is none.
        """
        try:
            partition = _JSON.validate_json(read_bytes(path, _MOST_BYTES))
        except OSError as error:
            raise FedpolypError(f"cannot read the partition {path}: {error.strerror}") from None
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = shown(".".join(str(part) for part in problem["loc"])) + ": " if problem["loc"] else ""
            raise FedpolypError(f"{path} is not a partition: {where}{problem['msg']}") from None
        sets = [partition.heldout, *partition.unseen.values()]
        for images in partition.hospitals.values():
            sets += [images.train, images.val, images.test]
        repeated = [image for image, count in Counter(image for ids in sets for image in ids).items() if count > 1]
        if repeated:
            raise FedpolypError(f"{path} is not a partition: image {shown(repeated[0])} is in it more than once")
        return partition


_JSON = TypeAdapter(Partition)
