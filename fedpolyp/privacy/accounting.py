"""The noise that a privacy guarantee needs, and the guarantee of given noise: epsilon and delta of Gaussian noise.

A hospital sends sums over units (images, or groups of images that belong together). Each unit adds a vector no longer
than `clip`, and every number gets Gaussian noise of standard deviation `sigma * clip`. Two sets of images are
neighbours if one has one unit more than the other. (epsilon, delta) bounds how well anybody who sees all the sums can
distinguish them, whatever else they know.

With all units in every sum, this is the Gaussian mechanism, computed exactly (Balle and Wang, ICML 2018). Sums with
noise sigma_1, sigma_2, … together are equivalent to one with mu² = 1/sigma_1² + 1/sigma_2² + …, where mu is 1/sigma
(Dong, Roth and Su, 2019).

If each unit is drawn independently for each sum (Poisson sampling), the package dp-accounting computes the privacy loss
distribution, also of sums of both kinds together. Shuffled batches, as in ordinary training, are not drawn like this,
and must not be computed like this.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from fedpolyp.errors import UsageError, to_install

# Roots are found to a part in 10^13; results err on the side of more noise.
_SLACK = 1e-9
# A larger epsilon guarantees nothing, so it is only bounded. Beyond the second even a coarse table is too large.
_MOST, _ANY = 1000.0, 1e5
# With less noise drawing hardly helps, and the losses of privacy are too large to be tabulated.
_LEAST_SIGMA = 0.1
_ORDERS = range(2, 65)  # of Rényi's divergence
# Steps of a table of privacy losses; dp-accounting errs on the side of a larger epsilon.
_DISCRETIZATION, _COARSE = 1e-3, 0.05
SCORE_SPAN = 0.5  # the most that a unit adds to the sum of a noisy score: its Dice differs from one half by so much
NO_LIBRARY = f"Poisson batches need the package dp-accounting: {to_install('privacy')}"


class Noise(NamedTuple):
    """The noise of a sum, and who is in it."""

    sigma: float  # standard deviation on each number, in units of the clip
    rate: float = 1.0  # probability with which each unit is in the sum, drawn independently


def default_delta(units: int) -> float:
    """The largest power of ten that is at most a fifth of 1/units.

    A delta of 1/units would allow publishing one unit as it is in each run.
    """
    return float(f"1e-{len(str(5 * units - 1))}")


def mu_of(sigmas: Iterable[float]) -> float:
    """The mu of sums with noise `sigmas` together: they are equivalent to one sum with noise 1/mu. 0.0 for none."""
    return math.sqrt(math.fsum(1 / sigma**2 for sigma in sigmas))


def delta_of(epsilon: float, mu: float) -> float:
    """The smallest delta with which a sum with noise 1/`mu` has this `epsilon`."""
    from scipy.special import log_ndtr, ndtr  # imported here because it takes a moment

    if mu == 0:
        return 0.0
    # The second term is a product of a huge and a tiny number.
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2)))


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest epsilon that a sum with noise 1/`mu` has at `delta`."""
    if delta_of(0.0, mu) <= delta:
        return 0.0
    enough = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))  # by Rényi divergence
    return _root(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, enough)


def sigma_for(epsilon: float, delta: float, rounds: int) -> float:
    """The noise with which `rounds` sums over all units together have (epsilon, delta); never too little."""
    most = 1.0
    while delta_of(epsilon, most) < delta:
        most *= 2
    mu = _root(lambda mu: delta_of(epsilon, mu) - delta, 0.0, most)
    return math.sqrt(rounds) / (mu * (1 - _SLACK))


def epsilon_of_all(sums: Iterable[Noise], delta: float) -> float:
    """An epsilon that all `sums` together have at `delta`, in whatever order they were asked for.

    Each may depend on the answers before it. Where its noise and rate do so, too, this is proven only for sums of all
    units (Smith and Thakurta, 2022).

    It is exact if every sum has all units. Otherwise it is by privacy loss distributions and errs on the side of a
    larger epsilon; one above 1000 may be far too large.

    Raises:
        UsageError: there are drawn sums, and the package dp-accounting is not installed.
    """
    every = Counter(sums)
    # Sums with all units have at least the epsilon of drawn ones.
    most = epsilon_of(mu_of(noise.sigma for noise in every.elements()), delta)
    drawn = {noise: count for noise, count in every.items() if noise.rate < 1}
    if not drawn:
        return most
    refuse_without_library()
    few = {noise: count for noise, count in drawn.items() if noise.sigma >= _LEAST_SIGMA}
    whole = mu_of(noise.sigma for noise in every.elements() if noise not in few)
    lines = tuple(sorted(few.items()))
    if most > _MOST:
        most = min(most, _by_divergence(whole, lines, delta))
    if _MOST < most < _ANY:
        most = min(most, _by_distribution(whole, lines, delta, _COARSE))
    return most if most > _MOST else min(most, _by_distribution(whole, lines, delta, _DISCRETIZATION))


def refuse_without_library() -> None:
    """Refuse to compute with drawn units where this is impossible.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    try:
        import dp_accounting  # noqa: F401
    except ImportError:
        raise UsageError(NO_LIBRARY) from None


@lru_cache(maxsize=1024)
def _by_distribution(mu: float, drawn: tuple[tuple[Noise, int], ...], delta: float, step: float) -> float:
    """The epsilon of a sum with noise 1/`mu` over all units (none if 0), and so many `drawn` sums of each noise."""
    from dp_accounting import pld

    return _composed(pld.PLDAccountant(value_discretization_interval=step), mu, drawn, delta)


def _by_divergence(mu: float, drawn: tuple[tuple[Noise, int], ...], delta: float) -> float:
    """The same by Rényi's divergence: larger, but quick however large epsilon is."""
    from dp_accounting import rdp

    return _composed(rdp.RdpAccountant(_ORDERS), mu, drawn, delta)


def _composed(accountant: Any, mu: float, drawn: tuple[tuple[Noise, int], ...], delta: float) -> float:
    import dp_accounting

    if mu:
        accountant.compose(dp_accounting.GaussianDpEvent(1 / mu))
    for (sigma, rate), count in drawn:
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma)), count)
    return float(accountant.get_epsilon(delta))


def poisson_epsilon(sigma: float, delta: float, rounds: int, rate: float) -> float:
    """The epsilon of `rounds` sums, each of which contains each unit with probability `rate`.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    refuse_without_library()
    return _by_distribution(0.0, ((Noise(sigma, rate), rounds),), delta, _DISCRETIZATION)


@lru_cache(maxsize=256)
def poisson_sigma(epsilon: float, delta: float, rounds: int, rate: float) -> float:
    """The noise with which `rounds` such sums have (epsilon, delta), to a part in a thousand; never too little.

    It is at least 0.1, unless less is enough with all units in each sum.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    from scipy.optimize import brentq

    most = sigma_for(epsilon, delta, rounds)  # sampling only lowers it
    if rate >= 1:
        return most

    def over(sigma: float) -> float:
        return min(poisson_epsilon(sigma, delta, rounds, rate), 1e9) - epsilon

    if most <= _LEAST_SIGMA or over(most) > 0:  # the latter for an epsilon near the discretization
        return most
    least = most
    while over(least) <= 0:
        if least == _LEAST_SIGMA:
            return least
        most, least = least, max(least / 2, _LEAST_SIGMA)
    found = math.exp(brentq(lambda logarithm: over(math.exp(logarithm)), math.log(least), math.log(most), xtol=5e-4))
    while found < most and over(found) > 0:
        found *= 1 + 5e-4
    return float(min(found, most))


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    """Where the monotone function `of` crosses zero between `low` and `high`, by bisection."""
    below = of(low) < 0
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high or high - low < 1e-13 * high:
            break
        if (of(middle) < 0) == below:
            low = middle
        else:
            high = middle
    return high
