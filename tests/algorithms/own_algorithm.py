"""An algorithm from outside the package, as in docs/extending.md: half of each update."""

from pydantic import Field

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, plus
from fedpolyp.section import Section


class Damped(Algorithm):
    """FedAvg, but the server takes only a part of the mean update."""

    class Settings(Section):
        """Of `[algorithm]`."""

        part: float = Field(0.5, gt=0, le=1, description="Damped: how much of the mean update is taken")

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        change = {name: self.settings.part * array for name, array in combined.changes[MODEL].items()}
        return {**super().combine(state, combined), MODEL: plus(state[MODEL], change)}
