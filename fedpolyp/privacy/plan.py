"""What a privacy guarantee costs, before anything is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fedpolyp.config.sections.privacy import MOST_DRAWN
from fedpolyp.errors import UsageError
from fedpolyp.privacy.accounting import (
    Noise,
    default_delta,
    epsilon_of,
    epsilon_of_all,
    mu_of,
    poisson_sigma,
    sigma_for,
)

_MOST_EPSILON = 1000.0  # a larger one guarantees nothing


@dataclass(frozen=True)
class Plan:
    """One noisy step in each of `rounds` rounds at a hospital of `units` units, with (`epsilon`, `delta`) for all.

    Raises:
        UsageError: a number is out of bounds.
    """

    units: int
    rounds: int
    epsilon: float
    delta: float
    batch: int | None = None  # expected units in a step, each drawn independently; None: all of them in each step

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= self._most:
            drawn = "" if self.batch is None else "with drawn batches "
            raise UsageError(f"{drawn}epsilon must be above 0, and {self._most:g} at most; got {self.epsilon:g}")
        if not 0 < self.delta < 1 / self.units:
            raise UsageError(
                f"delta must be above 0 and below 1/{self.units}, one over the units: a larger delta would "
                f"allow publishing one of them as it is; got {self.delta:g}"
            )
        if self.batch is not None and not 1 <= self.batch <= self.units:
            raise UsageError(f"a batch has 1 to {self.units} of the hospital's units; got {self.batch}")

    @classmethod
    def of(
        cls, units: int, rounds: int, epsilon: float, delta: float | None = None, batch: int | None = None
    ) -> "Plan":
        """A plan, with `default_delta` if `delta` is not given."""
        return cls(units, rounds, epsilon, default_delta(units) if delta is None else delta, batch)

    @property
    def _most(self) -> float:
        """The largest epsilon that a run with such batches takes, and that guarantees anything."""
        return _MOST_EPSILON if self.batch is None else MOST_DRAWN

    @cached_property
    def sigma(self) -> float:
        """The standard deviation of the noise on each number of a step's sum, in units of the clip."""
        if self.batch is None:
            return sigma_for(self.epsilon, self.delta, self.rounds)
        return poisson_sigma(self.epsilon, self.delta, self.rounds, self.batch / self.units)

    def noise(self, hospitals: int = 1, sharers: int = 1) -> float:
        """The same for the mean over the step's units at `hospitals` equal hospitals.

        With several `sharers`, each hospital adds only its share of the noise.
        """
        return self.sigma / ((self.batch or self.units) * math.sqrt(hospitals * sharers))

    def epsilon_with(self, sigma: float) -> float:
        """The epsilon of all rounds and one more sum of all units, with noise `sigma`."""
        step = Noise(self.sigma, 1.0 if self.batch is None else self.batch / self.units)
        return epsilon_of_all([step] * self.rounds + [Noise(sigma)], self.delta)

    def epsilon_of_several(self, units: int) -> float:
        """The epsilon for this many units together; not for drawn batches."""
        return epsilon_of(units * mu_of([self.sigma] * self.rounds), self.delta)

    def others(self) -> Sequence[Sequence["Plan"]]:
        """Plans with other numbers of rounds, a row each, and other epsilons, from a quarter to four times these.

        With drawn batches only from half to twice, because each plan takes a second.
        """
        parts = (0.25, 0.5, 1, 2, 4) if self.batch is None else (0.5, 1, 2)
        rounds = sorted({max(1, round(self.rounds * part)) for part in parts})
        epsilons = [self.epsilon * part for part in parts if part <= 2 and self.epsilon * part <= self._most]
        return [[replace(self, rounds=few, epsilon=epsilon) for epsilon in epsilons] for few in rounds]
