"""One run: everything that its rounds need."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fedpolyp.algorithms.base import Algorithm
from fedpolyp.algorithms.finding import make
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.rounds.sampling import needed
from fedpolyp.runs import RoundRecord, RunFolder
from fedpolyp.watcher import Watcher


@dataclass(frozen=True)
class Experiment:
    """A run of one config on one partition; the rounds change only its folder."""

    config: Config
    run: RunFolder
    store: Store | None  # None if the coordinator has no images: then the hospitals' own test sets are the score
    partition: Partition
    watcher: Watcher
    stop: threading.Event
    name_at_sites: str = ""  # the name by which real sites know this run; '' in a simulation
    registered: Mapping[str, int] = field(default_factory=dict)  # images that real sites may have, if agreed
    roster: str = ""  # the signed roster of mask keys for secure sums at real sites

    @cached_property
    def hospitals(self) -> tuple[str, ...]:
        """All hospitals, by name."""
        return tuple(sorted(self.partition.hospitals))

    @cached_property
    def algorithm(self) -> Algorithm:
        """The config's algorithm, for these hospitals."""
        return make(self.config, self.hospitals)

    @property
    def rounds_values(self) -> bool:
        """Whether arrays are rounded to bfloat16 when they are sent; without a federation nothing is sent."""
        return self.algorithm.federated and self.config.training.wire == "bfloat16"

    def needed(self, asked: int) -> int:
        """How many of so many hospitals must send a usable reply for a valid round."""
        return max(needed(self.config, asked), self.algorithm.least) if self.algorithm.federated else asked

    def refuse(self, record: RoundRecord, hospital: str, reason: str) -> None:
        """Record that a reply is rejected, and why, and tell the watcher."""
        refusal = {"hospital": hospital, "reason": reason}
        if refusal in record.refused:  # a site that is not connected is so for every message of the round
            return
        record.refused.append(refusal)
        self.watcher.note(f"round {record.round}: the reply of {hospital} is rejected: {reason}")
