"""The base class of schemes, and what schemes share."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.annotation import Annotation
from fedpolyp.data.camera import Camera
from fedpolyp.data.partition.groups import Groups, cut
from fedpolyp.errors import UsageError
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord

# One each for training, validation and test.
GROUPS_PER_HOSPITAL = 3
DRAWS = 100  # of a scheme whose draws may leave a hospital with too few images
SETS = ("train", "val", "test")

Rows = NDArray[np.intp]


class NoSettings(Section):
    """For a scheme without settings of its own."""


class Scheme:
    """A way to assign groups of images to hospitals: a subclass overrides `assign`, and seldom anything else.

    All randomness comes from the generator that a method is given.
    """

    Settings: ClassVar[type[Section]] = NoSettings
    uses_skew: ClassVar[bool] = False  # whether it uses `hospitals.skew`
    sets_count: ClassVar[bool] = False  # whether it decides the number of hospitals
    paths: ClassVar[tuple[str, ...]] = ()  # its settings that name files

    def __init__(self, settings: Section | None = None, skew: float = 0.5, min_images: int = GROUPS_PER_HOSPITAL):
        """
        Args:
            settings: an instance of `Settings`; None for the defaults.
            skew: how strong it is, from 0, like iid, to 1.
            min_images: the fewest that a hospital must have.
        """
        self.settings: Any = self.Settings() if settings is None else settings
        self.skew = skew
        self.min_images = min_images

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """The hospital of each group, intp (G,) in 0..hospitals-1.

        Raises:
            UsageError: it is not possible; the message says what to change.
        """
        raise NotImplementedError

    def names(self, groups: Groups, count: int) -> tuple[str, ...]:
        """The hospitals' names, and so their number; sorting by name sorts by number."""
        digits = len(str(count))
        return tuple(f"hospital-{number:0{digits}d}" for number in range(1, count + 1))

    def cameras(self, hospitals: int, rng: np.random.Generator) -> Sequence[Camera | None]:
        """The camera of each hospital."""
        return [None] * hospitals

    def heldout_camera(self, rng: np.random.Generator) -> Camera | None:
        """The camera of the held-out set."""
        return None

    def annotations(self, hospitals: int, rng: np.random.Generator) -> Sequence[Annotation | None]:
        """The errors in the masks that each hospital trains on."""
        return [None] * hospitals

    # Only for a partition that was made elsewhere.

    def key(self, record: "ImageRecord") -> Hashable:
        """Images with equal keys stay together."""
        return record.group

    def held_out(self, records: Sequence["ImageRecord"]) -> "tuple[tuple[str, ...], list[ImageRecord]] | None":
        """The sorted ids of the held-out set, and the records of the other images; None where it is drawn, as usual."""
        return None

    def sets(self, groups: Groups) -> Rows | None:
        """The set of each group, its position in `SETS`; None where each hospital's images are split, as usual."""
        return None


def assign_in_order(order: Rows, groups: Groups, hospitals: int) -> Rows:
    """The hospital of each group when equal shares of `order` go to hospital 0, 1, 2 and so on."""
    return assign_by_shares(order, groups, [1 / hospitals] * hospitals, GROUPS_PER_HOSPITAL)[1]


def assign_by_shares(order: Rows, groups: Groups, shares: Sequence[float], least: int = 0) -> tuple[Rows, Rows]:
    """The rows in `order`, ascending, and the hospital of each, if hospitals 0, 1 … get these shares of the images."""
    hospital = np.full(len(groups), -1, dtype=np.intp)
    for number, rows in enumerate(cut(order, groups, shares, [least] * len(shares))):
        hospital[rows] = number
    rows = np.flatnonzero(hospital >= 0)
    return rows, hospital[rows]


def enough(groups: Groups, hospital: Rows, hospitals: int, min_images: int) -> bool:
    """Whether each hospital has this many images, and a group for each of its sets."""
    images = np.bincount(hospital, weights=groups.size, minlength=hospitals)
    return bool(images.min() >= min_images and np.bincount(hospital, minlength=hospitals).min() >= GROUPS_PER_HOSPITAL)


def redrawn(
    draw: Callable[[], Rows], groups: Groups, hospitals: int, min_images: int, advice: str, draws: int = DRAWS
) -> Rows:
    """The first of a bounded number of draws that leaves each hospital with enough images.

    Raises:
        UsageError: none did; `advice` says what to change.
    """
    smallest = 0
    for _ in range(draws):
        hospital = draw()
        if enough(groups, hospital, hospitals, min_images):
            return hospital
        smallest = max(smallest, int(np.bincount(hospital, weights=groups.size, minlength=hospitals).min()))
    raise UsageError(
        f"in {draws} draws some of the {hospitals} hospitals always got fewer than {min_images} images or "
        f"{GROUPS_PER_HOSPITAL} groups of them (at best the smallest had {smallest}): {advice}"
    )
