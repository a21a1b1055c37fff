"""All updates of a stage side by side, for what cannot be summed: medians, distances, a model for each hospital."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedpolyp.aggregation.aggregate import Combined, Update


@dataclass
class Collecting:
    """Holds every update until the last has come; memory grows with the hospitals of a round."""

    join: Callable[[Sequence[Update]], Mapping[str, Mapping[str, Any]]]  # changes by group, out of all updates
    updates: list[Update] = field(default_factory=list)

    def add(self, update: Update) -> None:
        """Keep `update`."""
        self.updates.append(update)

    def result(self) -> Combined:
        """The result of `join`.

        Raises:
            ValueError: nothing was added, or too few for `join`.
        """
        if not self.updates:
            raise ValueError("there is nothing to combine")
        return Combined(self.join(self.updates), tuple(update.hospital for update in self.updates))
