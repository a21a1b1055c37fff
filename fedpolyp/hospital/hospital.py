"""A hospital: its name, its images and the folder of its private state."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.data.store import Store

if TYPE_CHECKING:
    from fedpolyp.training import Images


@dataclass(frozen=True)
class Hospital:
    """One hospital: its name, its images as ids of a store, and the folder of its private state."""

    name: str
    config: Config
    store: Store
    ids: HospitalImages
    state: Path

    def images(self, set: str) -> "tuple[Images, Images]":
        """Images (N, S, S, 3) and masks (N, S, S) of its 'train', 'val' or 'test' set."""
        positions = self.store.positions(getattr(self.ids, set))
        return self.store.images[positions], self.store.masks[positions]
