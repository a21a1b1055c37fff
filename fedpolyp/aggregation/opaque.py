"""The weighted mean of masked updates: it is computed from their sum, because no single one can be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedpolyp.aggregation.aggregate import Combined, Update
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.fixed_point import DoesNotFit, Words, decode, words_of
from fedpolyp.privacy.secure_sum import Opening, opened

MASKED, SUM, SEED = "masked", "sum", "seed"  # the group of masked updates and openings; its arrays


@dataclass
class Opaque:
    """A running sum of words modulo 2^64, with the same bits in whatever order they arrive."""

    like: Mapping[str, Arrays]  # names and shapes of an update's arrays, by group
    total: Words = field(init=False)
    weight: float = 0.0
    hospitals: list[str] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  # whose updates are in the sum, and which have not opened it yet

    def __post_init__(self) -> None:
        self.total = np.zeros(words_of(self.like), np.uint64)

    def add(self, update: Update) -> None:
        """Include a masked `update`."""
        self.total += update.changes[MASKED][SUM]
        self.weight += update.weight
        self.hospitals.append(update.hospital)
        self.closed.add(update.hospital)

    def open(self, hospital: str, opening: Opening) -> None:
        """Subtract from the sum the opening of `hospital`, whose update is in it."""
        self.closed.remove(hospital)
        opened(self.total, opening)

    def result(self) -> Combined:
        """The mean of each array.

        Raises:
            ValueError: nothing was added, a hospital has not opened, or the result cannot be the sum of these updates.
        """
        if not self.hospitals:
            raise ValueError("there is nothing to average")
        if self.closed:
            raise ValueError(f"the sum is closed: {', '.join(sorted(self.closed))} did not open it")
        means, weight = decode(self.total, self.like)
        if weight != self.weight:
            raise DoesNotFit(f"the weight of the sum is {weight}, but its hospitals reported {self.weight:g}")
        return Combined(means, tuple(self.hospitals))
