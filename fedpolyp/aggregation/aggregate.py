"""Updates, and their aggregate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fedpolyp.model.arrays import Arrays


@dataclass(frozen=True)
class Update:
    """The checked result of a hospital's training: differences from what it was sent, and its weight."""

    hospital: str
    changes: Mapping[str, Arrays]  # by group
    weight: float
    images: int  # or units, as many as the hospital declares, with privacy on
    loss: float | None  # None if it does not leave the hospital
    steps: int
    epsilon: float | None = None  # epsilon that the hospital has spent, with privacy on


@dataclass(frozen=True)
class Combined:
    """The aggregate of a stage's updates."""

    changes: Mapping[str, Mapping[str, Any]]  # by group; float64 for means
    hospitals: tuple[str, ...]  # whose updates are included


class Aggregate(Protocol):
    """Receives updates one by one, in the order of the hospitals."""

    def add(self, update: Update) -> None:
        """Include `update`."""

    def result(self) -> Combined:
        """The aggregate.

        Raises:
            ValueError: nothing was added.
        """
