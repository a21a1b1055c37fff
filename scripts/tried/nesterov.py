"""The outer optimizer of DiLoCo: A. Douillard et al., DiLoCo: Distributed Low-Communication Training, 2023."""

import numpy as np

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Groups, plus
from fedpolyp.algorithms.server_optimizers import FIRST, FedAvgM


class Nesterov(FedAvgM):
    """FedAvgM that looks ahead: v <- momentum · v + Δ, w <- w + rate · (momentum · v + Δ)."""

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        after = super().combine(state, combined)
        settings, change = self.settings, combined.changes[MODEL]
        steps = {
            name: settings.server_rate * (settings.server_momentum * m.astype(np.float64) + change[name])
            for name, m in after[FIRST].items()
        }
        stepped = plus({name: state[MODEL][name] for name in steps}, steps)
        return {**after, MODEL: {**after[MODEL], **stepped}}
