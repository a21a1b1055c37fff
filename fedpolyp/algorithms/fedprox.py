"""FedProx: T. Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from fedpolyp.algorithms.base import MODEL, Algorithm, Outcome, Visit, trainable
from fedpolyp.section import Section


class FedProx(Algorithm):
    """FedAvg whose local objective has the term mu/2 · |w - w_global|², which keeps hospitals near the global model."""

    class Settings(Section):
        """Of `[algorithm]`."""

        mu: float = Field(0.001, ge=0, description="FedProx: weight of the proximal term")

    corrections = ("anchor",)

    def train(self, visit: Visit) -> Outcome:
        """See `Algorithm`."""
        sent = visit.received[MODEL]
        trained = visit.train(sent, {"anchor": trainable(sent)})
        return Outcome(trained, {MODEL: trained.arrays})

    def gradient(self, gradient: Any, weight: Any, corrections: Mapping[str, Any]) -> Any:
        """See `Algorithm`: the gradient of the proximal term is mu · (w - w_global)."""
        return gradient + self.settings.mu * (weight - corrections["anchor"])
