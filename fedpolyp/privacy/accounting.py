"""The noise that a privacy guarantee needs, and the guarantee of given noise: epsilon and delta of Gaussian noise.

A hospital sends sums over units (images, or groups of images that belong together). Each unit adds a vector no longer
than `clip`, and every number gets Gaussian noise of standard deviation `sigma * clip`. Two sets of images are
neighbours if one has one unit more than the other. (epsilon, delta) bounds how well anybody who sees all the sums can
distinguish them, whatever else they know.

With all units in every sum, this is the Gaussian mechanism, computed exactly (Balle and Wang, ICML 2018). Sums with
noise sigma_1, sigma_2, … together are equivalent to one with mu² = 1/sigma_1² + 1/sigma_2² + …, where mu is 1/sigma
(Dong, Roth and Su, 2019).

If each unit is drawn independently for each sum (Poisson sampling), the package dp-accounting computes the privacy loss
distribution. Shuffled batches, as in ordinary training, are not drawn like this, and must not be computed like this.
"""

import math
from collections.abc import Callable, Iterable

from fedpolyp.errors import UsageError

# Roots are found to a part in 10^13; results err on the side of more noise.
_SLACK = 1e-9
_DISCRETIZATION = 1e-3  # of privacy losses; dp-accounting errs on the side of a larger epsilon
NO_LIBRARY = "Poisson batches need the package dp-accounting: pip install 'fedpolyp[privacy]'"


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


def poisson_epsilon(sigma: float, delta: float, rounds: int, rate: float) -> float:
    """The epsilon of `rounds` sums, each of which contains each unit with probability `rate`.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError:
        raise UsageError(NO_LIBRARY) from None
    drawn = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
    accountant = pld.PLDAccountant(value_discretization_interval=_DISCRETIZATION)
    accountant.compose(drawn, rounds)
    return float(accountant.get_epsilon(delta))


def poisson_sigma(epsilon: float, delta: float, rounds: int, rate: float) -> float:
    """The noise with which `rounds` such sums have (epsilon, delta), to a part in a thousand; never too little.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    from scipy.optimize import brentq

    most = sigma_for(epsilon, delta, rounds)  # sampling only lowers it
    if rate >= 1:
        return most

    def over(logarithm: float) -> float:
        return math.log(poisson_epsilon(math.exp(logarithm), delta, rounds, rate) / epsilon)

    least = most / 2
    while over(math.log(least)) <= 0 and least > most * rate / 4:
        most, least = least, least / 2
    found = brentq(over, math.log(least), math.log(most), xtol=5e-4)
    while over(found) > 0:
        found += 5e-4
    return float(math.exp(found))


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
