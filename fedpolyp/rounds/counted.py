"""The rounds in which each hospital's training counted; they identify its private state."""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


def trained(own: Mapping[str, Any]) -> bool:
    """Whether a hospital's training counted, from its entry `own` in the record of a round."""
    return "train_loss" in own or "units" in own  # with privacy on, the loss stays at the hospital


@dataclass
class Counted:
    """For each hospital, the rounds in which its update counted, in order.

    A hospital writes its private state before anybody knows whether its update will count. So each request names the
    last round that did, and the state of a rejected update is never read.
    """

    rounds: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Counted":
        """From the records of complete rounds."""
        counted = cls()
        for record in records:
            for hospital, own in record["hospitals"].items():
                if trained(own):
                    counted.add(hospital, record["round"])
        return counted

    def add(self, hospital: str, round: int) -> None:
        """An update of `round` counted."""
        self.rounds.setdefault(hospital, []).append(round)

    def last(self, hospital: str, round: int) -> int:
        """The last round up to `round` in which an update of `hospital` counted; 0 if there is none."""
        known = self.rounds.get(hospital, [])
        place = bisect.bisect_right(known, round)
        return known[place - 1] if place else 0
