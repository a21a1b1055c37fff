"""Deals images to the held-out set and to hospitals, and saves who got which.

A group of near-duplicate images is the smallest thing dealt: it is never divided. Each deal is an order of the groups,
cut into runs of about equally many images; a scheme is known by the order it chooses.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, TypeAdapter, ValidationError

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import read_bytes, replacing
from fedpolyp.names import check_hospital, check_id, shown

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord

# One each for training, validation and test.
GROUPS_PER_HOSPITAL = 3

_MOST_BYTES = 64 * 1024**2  # of a partition.json: 100,000 images with the longest ids

_Id = Annotated[str, AfterValidator(check_id)]
_Hospital = Annotated[str, AfterValidator(check_hospital)]

# A stream of random numbers for each decision, so that changing one of them leaves the others as they were.
_HELD_OUT, _DEAL, _SPLIT = 1, 2, 3


@dataclass(frozen=True)
class HospitalImages:
    """The ids of one hospital's images, each tuple sorted."""

    train: tuple[_Id, ...]
    val: tuple[_Id, ...]
    test: tuple[_Id, ...]


@dataclass(frozen=True)
class Partition:
    """Which image is where: the ids of the held-out set, sorted, and each hospital's by the hospital's name."""

    heldout: tuple[_Id, ...]
    hospitals: dict[_Hospital, HospitalImages]

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
        sets = [partition.heldout]
        for images in partition.hospitals.values():
            sets += [images.train, images.val, images.test]
        repeated = [image for image, count in Counter(image for ids in sets for image in ids).items() if count > 1]
        if repeated:
            raise FedpolypError(f"{path} is not a partition: image {shown(repeated[0])} is in it more than once")
        return partition


_JSON = TypeAdapter(Partition)


@dataclass(frozen=True)
class Groups:
    """A table with one row per duplicate group."""

    images: tuple[tuple[str, ...], ...]  # ids of the group's images
    size: NDArray[np.intp]  # (G,) how many those are
    lesion_fraction: NDArray[np.float64]  # (G,) mean over them, each in (0,1]

    @classmethod
    def of(cls, records: Sequence["ImageRecord"]) -> "Groups":
        """The groups of `records`; the rows' order depends on the ids alone, not on the order of `records`."""
        members: dict[int, list[ImageRecord]] = {}
        for record in sorted(records, key=lambda record: record.id):
            members.setdefault(record.group, []).append(record)
        return cls(
            tuple(tuple(record.id for record in group) for group in members.values()),
            np.array([len(group) for group in members.values()], dtype=np.intp),
            np.array([np.mean([record.lesion_fraction for record in group]) for group in members.values()]),
        )

    def __len__(self) -> int:
        return len(self.images)

    def ids(self, rows: NDArray[np.intp]) -> tuple[str, ...]:
        """The sorted ids of all images in these groups."""
        return tuple(sorted(image for row in rows for image in self.images[row]))


def iid(groups: Groups, hospitals: int, skew: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shuffled: hospitals differ by chance alone. `skew` has no part in it."""
    return _deal_in_order(rng.permutation(len(groups)), groups, hospitals)


def lesion_size(groups: Groups, hospitals: int, skew: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """From small lesions to large: sorted by skew · rank/n + (1 - skew) · u, u uniform in [0,1); skew 0 shuffles.

    At skew 1 no lesion (mean of its group) at a hospital is larger than any at the next.
    """
    n = len(groups)
    rank = np.argsort(np.argsort(groups.lesion_fraction, kind="stable"))
    return _deal_in_order(np.argsort(skew * rank / n + (1 - skew) * rng.random(n), kind="stable"), groups, hospitals)


Scheme = Callable[[Groups, int, float, np.random.Generator], NDArray[np.intp]]
"""(groups, number of hospitals, skew in [0,1], rng) -> hospital of each group, (G,) in 0..hospitals-1."""

SCHEMES: dict[str, Scheme] = {"iid": iid, "lesion-size": lesion_size}


def deal(records: Sequence["ImageRecord"], config: Config) -> Partition:
    """Deals all images: first the held-out set, then the rest to hospitals, then each hospital's own into three sets.

    The held-out set is drawn at random, `data.held_out` of the images; it depends on the seed and the images alone.
    With `data.lists` it is what val.txt lists instead, and only what train.txt lists is dealt: the authors' lists are
    kept as they are, save that a training image with a near-duplicate in val.txt is left out of everything. Listed ids
    that are not among the records are ignored; `said_of_lists` names them.

    Image counts are within the largest group's size of what they should be, unless a hospital had then fewer than
    three groups or one of its sets none. Hospitals are named so that sorting by name sorts by number.

    Raises:
        UsageError: too few images for that many hospitals, or lists that cannot be read or list none of the images.
    """
    if config.data.lists is None:
        heldout, rest = _draw_held_out(records, config.data.held_out, _rng(config, _HELD_OUT))
    else:
        heldout, rest = _read_held_out(records, Path(config.data.lists))
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
    )


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


def _draw_held_out(
    records: Sequence["ImageRecord"], fraction: float, rng: np.random.Generator
) -> tuple[tuple[str, ...], list["ImageRecord"]]:
    groups = Groups.of(records)
    order = rng.permutation(len(groups))
    chosen, _ = _cut(order, groups, [fraction, 1 - fraction], [1, 1])
    heldout = groups.ids(chosen)
    held = set(heldout)
    return heldout, [record for record in records if record.id not in held]


def said_of_lists(records: Sequence["ImageRecord"], config: Config) -> list[str]:
    """A sentence for each thing in the lists of `data.lists` that `deal` does not do as it is listed.

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
            said.append(f"{len(lost)} of {len(listed)} ids in {path} are those of no usable image: {_some(lost)}")
    if both := val & train & present:
        said.append(f"{len(both)} images are in both lists, and held out: {_some(both)}")
    seen = {record.group for record in records if record.id in val}
    if alike := {record.id for record in records if record.id in train - val and record.group in seen}:
        said.append(f"{len(alike)} images of train.txt are near-duplicates of val.txt's, and left out: {_some(alike)}")
    if unlisted := present - val - train:
        said.append(f"{len(unlisted)} images are in neither list, and left out: {_some(unlisted)}")
    return said


def _some(ids: set[str], most: int = 5) -> str:
    return ", ".join(sorted(ids)[:most]) + (", …" if len(ids) > most else "")


def _read_held_out(records: Sequence["ImageRecord"], lists: Path) -> tuple[tuple[str, ...], list["ImageRecord"]]:
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
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(f"data.lists: cannot read {path} as a list of image ids, one a line: {why}") from None
    return {line.strip() for line in lines} - {""}


def _deal_in_order(order: NDArray[np.intp], groups: Groups, hospitals: int) -> NDArray[np.intp]:
    """The hospital of each group when equal shares of `order` go to hospital 0, 1, 2 and so on."""
    runs = _cut(order, groups, [1 / hospitals] * hospitals, [GROUPS_PER_HOSPITAL] * hospitals)
    hospital = np.empty(len(groups), dtype=np.intp)
    for number, rows in enumerate(runs):
        hospital[rows] = number
    return hospital


def _split(groups: Groups, rows: NDArray[np.intp], val: float, test: float) -> HospitalImages:
    sets = _cut(rows, groups, [val, test, 1 - val - test], [val > 0, test > 0, 1])
    val_ids, test_ids, train_ids = map(groups.ids, sets)
    return HospitalImages(train_ids, val_ids, test_ids)


def _cut(
    order: NDArray[np.intp], groups: Groups, shares: Sequence[float], least: Sequence[int]
) -> list[NDArray[np.intp]]:
    """`order` cut into runs that hold these shares of its images as nearly as whole groups allow.

    Each cut is off by half a group at most, but run k gets at least `least[k]` groups, as long as there are enough.
    """
    size = groups.size[order]
    middles = np.cumsum(size) - size / 2
    ideal = np.searchsorted(middles, np.cumsum(shares[:-1]) * size.sum())
    kept_for_later = len(order) - np.cumsum(least[:0:-1], dtype=np.intp)[::-1]
    cuts: list[int] = []
    for at, low, high in zip(ideal, least[:-1], kept_for_later, strict=True):
        cuts.append(max((cuts[-1] if cuts else 0) + low, min(int(at), int(high))))
    return np.split(order, cuts)
