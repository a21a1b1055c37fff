"""FedAvg whose scored model is an exponential moving average of the trained ones (Polyak and Juditsky, 1992)."""

from typing import Any

import numpy as np
from pydantic import Field

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Start
from fedpolyp.model.arrays import Arrays
from fedpolyp.section import Section

NEWEST = "newest"


class EMA(Algorithm):
    """Hospitals train from the newest model; what is scored and saved is the average, moving statistics included."""

    class Settings(Section):
        """Of `[algorithm]`."""

        decay: float = Field(0.5, ge=0, lt=1, description="EMA: how much of the average is kept in a round")

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`."""
        return {**super().begin(start), NEWEST: start.model}

    def ask(self, state: Groups, hospital: str) -> Groups:
        """See `Algorithm`."""
        return {**super().ask(state, hospital), MODEL: state[NEWEST]}

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        after = super().combine({**state, MODEL: state[NEWEST]}, combined)
        return {**after, NEWEST: after[MODEL], MODEL: self._average(state[MODEL], after[MODEL])}

    def _average(self, before: Arrays, newest: Arrays) -> Arrays:
        decay: Any = self.settings.decay
        return {
            name: np.asarray(decay * array.astype(np.float64) + (1 - decay) * newest[name], array.dtype)
            for name, array in before.items()
        }
