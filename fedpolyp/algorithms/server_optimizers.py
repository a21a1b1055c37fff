"""FedAvgM, FedAdagrad, FedAdam, FedYogi: the server takes the mean update for a gradient, and an optimizer's step.

T.-M. H. Hsu et al., Measuring the Effects of Non-Identical Data Distribution (FedAvgM), 2019; S. Reddi et al., Adaptive
Federated Optimization, ICLR 2021, Algorithm 2. They step on trainable arrays alone. Moving statistics and optimizer
states are averaged as in FedAvg: a step beyond the mean would push a variance below zero, and would leave statistics
that no longer fit the weights.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Start, plus
from fedpolyp.model.arrays import Arrays
from fedpolyp.section import Section

FIRST, SECOND = "server-m", "server-v"
Array = NDArray[np.float64]


class FedAvgM(Algorithm):
    """FedAvg with momentum at the server: v <- momentum · v + Δ, w <- w + rate · v."""

    class Settings(Section):
        """Of `[algorithm]`."""

        server_rate: float = Field(0.3, gt=0, le=10, description="FedAvgM: the server's learning rate")
        server_momentum: float = Field(0.9, ge=0, lt=1, description="FedAvgM: the server's momentum")

    takes_gradients = True

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`."""
        return {**super().begin(start), FIRST: start.zeros()}

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        after = dict(super().combine(state, combined))
        change = combined.changes[MODEL]
        momentum = {
            name: self.settings.server_momentum * m.astype(np.float64) + change[name]
            for name, m in state[FIRST].items()
        }
        steps = {name: self.settings.server_rate * m for name, m in momentum.items()}
        return after | {FIRST: _stored(momentum), MODEL: _stepped(after[MODEL], state[MODEL], steps)}


class _Adaptive(Algorithm):
    """w <- w + rate · m / (√v + tau), with m the mean of updates and v, their size, as each paper has it."""

    takes_gradients = True

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`: v begins at tau², as in the paper's Algorithm 2."""
        tau = self.settings.tau**2
        second = {name: np.full_like(array, tau) for name, array in start.trainable.items()}
        return {**super().begin(start), FIRST: start.zeros(), SECOND: second}

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`."""
        after = dict(super().combine(state, combined))
        first, second, steps = {}, {}, {}
        for name, m in state[FIRST].items():
            change = np.asarray(combined.changes[MODEL][name], np.float64)
            first[name] = self.settings.beta1 * m.astype(np.float64) + (1 - self.settings.beta1) * change
            second[name] = self.size(state[SECOND][name].astype(np.float64), change)
            steps[name] = self.settings.server_rate * first[name] / (np.sqrt(second[name]) + self.settings.tau)
        model = _stepped(after[MODEL], state[MODEL], steps)
        return after | {FIRST: _stored(first), SECOND: _stored(second), MODEL: model}

    def size(self, second: Array, change: Array) -> Array:
        """The next v."""
        raise NotImplementedError


class FedAdagrad(_Adaptive):
    """v <- v + Δ²."""

    class Settings(Section):
        """Of `[algorithm]`."""

        server_rate: float = Field(0.1, gt=0, le=10, description="FedAdagrad: the server's learning rate")
        beta1: float = Field(0.0, ge=0, lt=1, description="FedAdagrad: decay of the mean of updates")
        tau: float = Field(1e-3, gt=0, le=1, description="FedAdagrad: how much the sizes of updates count")

    def size(self, second: Array, change: Array) -> Array:
        """See `_Adaptive`."""
        return second + change**2


class FedAdam(_Adaptive):
    """v <- beta2 · v + (1 - beta2) · Δ²."""

    class Settings(Section):
        """Of `[algorithm]`."""

        server_rate: float = Field(0.03, gt=0, le=10, description="FedAdam: the server's learning rate")
        beta1: float = Field(0.9, ge=0, lt=1, description="FedAdam: decay of the mean of updates")
        beta2: float = Field(0.99, ge=0, lt=1, description="FedAdam: decay of the mean of their squares")
        tau: float = Field(1e-3, gt=0, le=1, description="FedAdam: how much the sizes of updates count")

    def size(self, second: Array, change: Array) -> Array:
        """See `_Adaptive`."""
        result: Array = self.settings.beta2 * second + (1 - self.settings.beta2) * change**2
        return result


class FedYogi(_Adaptive):
    """v <- v - (1 - beta2) · Δ² · sign(v - Δ²)."""

    class Settings(Section):
        """Of `[algorithm]`."""

        server_rate: float = Field(0.01, gt=0, le=10, description="FedYogi: the server's learning rate")
        beta1: float = Field(0.9, ge=0, lt=1, description="FedYogi: decay of the mean of updates")
        beta2: float = Field(0.99, ge=0, lt=1, description="FedYogi: decay of the mean of their squares")
        tau: float = Field(1e-3, gt=0, le=1, description="FedYogi: how much the sizes of updates count")

    def size(self, second: Array, change: Array) -> Array:
        """See `_Adaptive`."""
        square = change**2
        result: Array = second - (1 - self.settings.beta2) * square * np.sign(second - square)
        return result


def _stepped(averaged: Arrays, before: Arrays, steps: dict[str, Any]) -> Arrays:
    """The averaged model, with steps from where it was `before` in the place of the mean for what has a step."""
    return averaged | plus({name: before[name] for name in steps}, steps)


def _stored(values: dict[str, Array]) -> Arrays:
    return {name: value.astype(np.float32) for name, value in values.items()}
