"""SCAFFOLD: S. P. Karimireddy et al., Stochastic Controlled Averaging for Federated Learning, ICML 2020."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Outcome, Start, Visit, minus, plus

CONTROL = "control"
WEIGHTS, ALL = "control-weights", "hospitals"  # a group that stays at the server, and its only array; 0: not known yet


class Scaffold(Algorithm):
    """Each step follows g - cᵢ + c: the hospital's gradient, corrected by its usual difference from that of all
    hospitals.

    cᵢ, the hospital's control variate, is the mean of its gradients in its last training, and stays there. c, at the
    server, is the mean of all cᵢ. With plain gradient steps this is the paper's option II, because the mean gradient
    then equals (x - yᵢ) / (K · rate); in this form it works with every local optimizer.

    The paper's hospitals all have the same weight. Otherwise c must have the weights of the models: all hospitals end
    up going along c, so c alone decides whose optimum they find.
    """

    corrections = ("toward",)
    wants_gradients = True
    keeps_state = True

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`: c is zero, and no hospital's weight is known."""
        return {**super().begin(start), CONTROL: start.zeros(), WEIGHTS: {ALL: np.zeros(len(self.hospitals))}}

    @property
    def sends(self) -> tuple[str, ...]:
        """See `Algorithm`."""
        return (*super().sends, CONTROL)

    def update(self, start: Start) -> Groups:
        """See `Algorithm`: an update holds cᵢ⁺ - cᵢ, too."""
        return {**super().update(start), CONTROL: start.trainable}

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return _WithWeights(self.mean())

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`: c moves by the mean of the changes, times the share of those who sent them in all weights.

        So it stays the mean of all cᵢ. With equal weights the share is |S|/N.
        """
        changes = dict(combined.changes)
        control, weights = changes.pop(CONTROL), changes.pop(WEIGHTS)
        known = state[WEIGHTS][ALL].copy()
        for hospital, weight in weights.items():
            known[self.hospitals.index(hospital)] = weight
        before, now = _whole(state[WEIGHTS][ALL]), _whole(known)
        share = float(sum(weights.values())) / now
        moves = {
            name: share * change + (before / now - 1) * state[CONTROL][name].astype(np.float64)
            for name, change in control.items()
        }
        after = dict(super().combine(state, Combined(changes, combined.hospitals)))
        return after | {CONTROL: plus(state[CONTROL], moves), WEIGHTS: {ALL: known}}

    def train(self, visit: Visit) -> Outcome:
        """See `Algorithm`."""
        everybody = visit.received[CONTROL]
        own = visit.kept.get(CONTROL, {name: np.zeros_like(array) for name, array in everybody.items()})
        trained = visit.train(visit.received[MODEL], {"toward": minus(everybody, own)})
        # As a value, so that its difference from the c that was sent is cᵢ⁺ - cᵢ.
        moved = {name: everybody[name] + trained.gradient[name] - own[name] for name in everybody}
        return Outcome(trained, {MODEL: trained.arrays, CONTROL: moved}, {CONTROL: trained.gradient})

    def gradient(self, gradient: Any, weight: Any, corrections: Mapping[str, Any]) -> Any:
        """See `Algorithm`."""
        return gradient + corrections["toward"]


def _whole(known: NDArray[np.float64]) -> float:
    """The weight of all hospitals together: those whose own is not known yet count as the mean of the others."""
    seen = known[known > 0]
    return len(known) * float(seen.mean()) if len(seen) else 0.0


class _WithWeights:
    """A mean that also tells the hospitals' weights."""

    def __init__(self, mean: Aggregate) -> None:
        self._mean, self._weights = mean, dict[str, NDArray[np.float64]]()

    def add(self, update: Update) -> None:
        """Include `update`."""
        self._mean.add(update)
        self._weights[update.hospital] = np.array(update.weight)

    def result(self) -> Combined:
        """The mean, and the weights beside it."""
        combined = self._mean.result()
        return Combined({**combined.changes, WEIGHTS: self._weights}, combined.hospitals)
