"""A hospital: its name, its images and the folder of its private state."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.data.store import Store
from fedpolyp.errors import Refusal
from fedpolyp.privacy.keeper import Keeper
from fedpolyp.privacy.keyring import Keyring
from fedpolyp.privacy.units import fault_of_patients, units_of

if TYPE_CHECKING:
    from fedpolyp.training import Images

NO_PATIENTS = (
    "this hospital cannot protect patient by patient: it does not know the patient of each image, or "
    "near-duplicates join patients ('site check' tells the hospital more)"
)


@dataclass(frozen=True)
class Hospital:
    """One hospital: its name, its images as ids of a store, and the folder of its private state."""

    name: str
    config: Config
    store: Store
    ids: HospitalImages
    state: Path
    parts: tuple[HospitalImages, ...] = ()  # for the pooled hospital: the hospitals that its images come from
    keeper: Keeper | None = None  # at a site with privacy
    keyring: Keyring | None = None  # at a site with secure sums

    def images(self, set: str) -> "tuple[Images, Images]":
        """Images (N, S, S, 3) and masks (N, S, S) of its 'train', 'val' or 'test' set, as the hospital has them."""
        ids: tuple[str, ...] = getattr(self.ids, set)
        positions = self.store.positions(ids)
        images, masks = self.store.images[positions], self.store.masks[positions]
        for own in self.parts or (self.ids,):
            if own.camera is None and own.annotation is None:
                continue
            theirs = frozenset(getattr(own, set))
            rows = [row for row, id in enumerate(ids) if id in theirs]
            named = [ids[row] for row in rows]
            images[rows], masks[rows] = own.seen(images[rows], masks[rows], named, training=set == "train")
        return images, masks

    def units(self, unit: str, set: str = "train") -> list[list[int]]:
        """The rows of its images of a set that form a unit of privacy: each 'image', each 'group' or each 'patient'.

        Raises:
            Refusal: a unit is a patient, and not all patients are known, or images of several belong together. It does
                not say of how many images, because the number should stay here.
        """
        records = [self.store.records[position] for position in self.store.positions(getattr(self.ids, set))]
        if unit == "patient" and fault_of_patients(records):
            raise Refusal(NO_PATIENTS)
        return units_of(records, unit)
