"""SCAFFOLD: S. P. Karimireddy et al., Stochastic Controlled Averaging for Federated Learning, ICML 2020."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.aggregation.mean import WeightedMean
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Outcome, Start, Visit, minus, plus

CONTROL = "control"


class Scaffold(Algorithm):
    """Each step follows g - cᵢ + c: the hospital's gradient, corrected by its usual difference from that of all
    hospitals.

    cᵢ, the hospital's control variate, is the mean of its gradients in its last training, and stays there. c, at the
    server, is the mean of all cᵢ. With plain gradient steps this is the paper's option II, because the mean gradient
    then equals (x - yᵢ) / (K · rate); in this form it works with every local optimizer.
    """

    corrections = ("toward",)
    wants_gradients = True
    keeps_state = True

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`: c is zero."""
        return {**super().begin(start), CONTROL: start.zeros()}

    @property
    def sends(self) -> tuple[str, ...]:
        """See `Algorithm`."""
        return (*super().sends, CONTROL)

    def update(self, start: Start) -> Groups:
        """See `Algorithm`: an update holds cᵢ⁺ - cᵢ, too."""
        return {**super().update(start), CONTROL: start.trainable}

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return _Controlled(self.mean())

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`: c moves by |S|/N times the mean of the changes, whatever the numbers of images."""
        changes = dict(combined.changes)
        control = changes.pop(CONTROL)
        share = len(combined.hospitals) / len(self.hospitals)
        after = dict(super().combine(state, Combined(changes, combined.hospitals)))
        return after | {CONTROL: plus(state[CONTROL], {name: share * change for name, change in control.items()})}

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


class _Controlled:
    """The mean of the models, weighted by images, and the unweighted mean of the control variates."""

    def __init__(self, weighted: Aggregate) -> None:
        self._weighted, self._equal = weighted, WeightedMean()

    def add(self, update: Update) -> None:
        """Include `update`."""
        others = {group: arrays for group, arrays in update.changes.items() if group != CONTROL}
        self._weighted.add(replace(update, changes=others))
        self._equal.add(replace(update, changes={CONTROL: update.changes[CONTROL]}, weight=1.0))

    def result(self) -> Combined:
        """Both means."""
        weighted = self._weighted.result()
        return Combined({**weighted.changes, **self._equal.result().changes}, weighted.hospitals)
