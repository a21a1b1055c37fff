"""An update, and what updates become."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fedpolyp.model.arrays import Arrays


@dataclass(frozen=True)
class Update:
    """What a hospital's training brings, checked: differences from what it was sent, and what it weighs."""

    hospital: str
    changes: Mapping[str, Arrays]  # by group
    weight: float
    images: int  # or units, as many as the hospital declares, where it promises something
    loss: float | None  # None where it does not leave the hospital
    steps: int
    epsilon: float | None = None  # what the hospital has spent, where it promises something


@dataclass(frozen=True)
class Combined:
    """What a stage's updates became."""

    changes: Mapping[str, Mapping[str, Any]]  # by group; float64 where they are means
    hospitals: tuple[str, ...]  # that are in it


class Aggregate(Protocol):
    """Takes updates one by one, in the order of the hospitals."""

    def add(self, update: Update) -> None:
        """Count `update`."""

    def result(self) -> Combined:
        """What they became.

        Raises:
            ValueError: nothing was added.
        """
