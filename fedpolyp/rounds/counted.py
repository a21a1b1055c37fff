"""In which rounds a training of each hospital counted: by that its private state is found."""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


def trained(own: Mapping[str, Any]) -> bool:
    """Whether a training of a hospital counted in the round of whose record `own` is its entry."""
    return "train_loss" in own or "units" in own  # the loss stays at home where privacy is on


@dataclass
class Counted:
    """By hospital, the rounds in which its update counted, in order.

    A hospital writes its private state before anybody knows whether its update will count. So each request names the
    last one that did, and the state of one that was refused is never read.
    """

    rounds: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Counted":
        """As the records of complete rounds have it."""
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
        """The last round up to `round` in which one of `hospital` counted; 0 when there is none."""
        known = self.rounds.get(hospital, [])
        place = bisect.bisect_right(known, round)
        return known[place - 1] if place else 0
