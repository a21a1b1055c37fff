"""`[algorithm]`: how hospitals train and the server combines."""

from typing import ClassVar

from pydantic import Field

from fedpolyp.algorithms.finding import BUILT_IN, NAME, NAME_LIKE, find
from fedpolyp.config.sections.own import WithOwn
from fedpolyp.section import Section
from fedpolyp.text import printable


class AlgorithmConfig(WithOwn):
    """The algorithm, and its own settings."""

    table: ClassVar[str] = "algorithm"

    name: str = Field(
        "fedavg",
        description=f"how hospitals train and the server aggregates: {', '.join(BUILT_IN)}, or "
        "module:Class; pooled and local train without a federation, for comparison",
    )

    @property
    def built_in(self) -> bool:
        """See `WithOwn`."""
        if not NAME.fullmatch(self.name):
            raise ValueError(f"algorithm must be {NAME_LIKE}; got '{printable(self.name, 100)}'")
        return self.name in BUILT_IN

    def _kind(self) -> type[Section]:
        return find(self.name).Settings
