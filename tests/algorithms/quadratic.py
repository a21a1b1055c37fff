"""Hospitals whose loss is a quadratic of two weights: trainings and optima that can be worked out by hand."""

from dataclasses import dataclass, field

import numpy as np

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Start, Trained, minus
from fedpolyp.model.arrays import Arrays

RATE = 0.05


@dataclass
class QuadraticHospital:
    """The loss is ½ Σ a (w - b)², its gradient a (w - b); a training is `steps` plain gradient steps."""

    a: tuple[float, float]
    b: tuple[float, float]
    steps: int = 5
    images: int = 10
    kept: Groups = field(default_factory=dict)
    received: Groups = field(default_factory=dict)
    algorithm: Algorithm | None = None
    name: str = "a"

    @property
    def start(self) -> Start:
        return Start({"w": np.zeros(2)}, {})

    def train(self, arrays: Arrays, corrections: Groups | None = None) -> Trained:
        assert self.algorithm is not None
        weights, total = arrays["w"].copy(), np.zeros(2)
        for _ in range(self.steps):
            gradient = np.array(self.a) * (weights - np.array(self.b))
            total += gradient
            if corrections:
                own = {name: values["w"] for name, values in corrections.items()}
                gradient = self.algorithm.gradient(gradient, weights, own)
            weights = weights - RATE * gradient
        return Trained({"w": weights}, {}, 0.0, self.images, self.steps, {"w": total / self.steps})

    def round(self, algorithm: Algorithm, sent: Groups) -> Update:
        """What this hospital brings to a round, as the hospital's work makes it."""
        self.algorithm, self.received = algorithm, sent
        outcome = algorithm.train(self)
        self.kept = outcome.kept
        changes = {group: minus(arrays, sent.get(group, {})) for group, arrays in outcome.sent.items()}
        return Update(self.name, changes, float(self.images), self.images, 0.0, self.steps)


def rounds(algorithm: Algorithm, hospitals: list[QuadraticHospital], number: int) -> Groups:
    """The server's state after so many rounds."""
    state = algorithm.begin(Start({"w": np.zeros(2)}, {}))
    for _ in range(number):
        aggregate = algorithm.aggregate()
        for place, hospital in enumerate(hospitals):
            aggregate.add(hospital.round(algorithm, algorithm.ask(state, f"h{place}")))
        state = algorithm.combine(state, aggregate.result())
    return state


def optimum(hospitals: list[QuadraticHospital]) -> np.ndarray:
    """Where the mean of the losses, weighted by images, is smallest."""
    a = np.array([h.a for h in hospitals])
    b = np.array([h.b for h in hospitals])
    n = np.array([[h.images] for h in hospitals])
    best: np.ndarray = (n * a * b).sum(axis=0) / (n * a).sum(axis=0)
    return best


__all__ = ["MODEL", "RATE", "QuadraticHospital", "optimum", "rounds"]
