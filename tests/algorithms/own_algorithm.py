"""Algorithms from outside the package: one as in docs/extending.md, half of each update; and some for single rules."""

from typing import Any

from pydantic import Field

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Outcome, Visit, plus
from fedpolyp.algorithms.finetune import FineTune
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


class Still(Algorithm):
    """No step goes anywhere."""

    def gradient(self, gradient: Any, weight: Any, corrections: Any) -> Any:
        """See `Algorithm`."""
        return 0.0 * gradient


class Forgetful(Algorithm):
    """Keeps what it would never get back."""

    def train(self, visit: Visit) -> Outcome:
        """See `Algorithm`."""
        trained = visit.train(visit.received[MODEL])
        return Outcome(trained, {MODEL: trained.arrays}, {"before": trained.arrays})


class Corrected(FineTune):
    """Fine-tunes, and reads a correction in every step."""

    corrections = ("towards",)


class Unset(Algorithm):
    """Fine-tunes, and does not say how."""

    fine_tunes = True
