"""How much noise a promise of privacy takes, and what noise has promised: epsilon and delta of the Gaussian mechanism.

A hospital sends sums over units (images, or groups of images that belong together) of which each adds a vector no
longer than `clip`, with Gaussian noise of standard deviation `sigma * clip` on every number. Two sets of images are
neighbours when one has one unit more than the other. Then (epsilon, delta) bounds how much better than by guessing
anybody can tell them apart who sees all the sums, whatever else he knows.

All units in every sum: the Gaussian mechanism, exactly (Balle and Wang, ICML 2018). Sums with noise sigma_1, sigma_2, …
are together as one with mu² = 1/sigma_1² + 1/sigma_2² + … (Dong, Roth and Su, 2019), where mu stands for 1/sigma.

Each unit drawn independently for each sum (Poisson sampling): the privacy loss distribution of the package
dp-accounting. Batches that are shuffled, as in ordinary training, are not drawn so, and must not be reckoned so.
"""

import math
from collections.abc import Callable, Iterable

from fedpolyp.errors import UsageError

# Roots are found to a part in 10^13; what is given out errs on the side of more noise.
_SLACK = 1e-9
_DISCRETIZATION = 1e-3  # of privacy losses; dp-accounting errs on the side of a larger epsilon
NO_LIBRARY = "Poisson batches need the package dp-accounting: pip install 'fedpolyp[privacy]'"


def default_delta(units: int) -> float:
    """The largest power of ten that is at most a fifth of 1/units.

    A delta of 1/units would allow to publish one unit in each run as it is; a fifth of it is what little remains.
    """
    return float(f"1e-{len(str(5 * units - 1))}")


def mu_of(sigmas: Iterable[float]) -> float:
    """What sums with noise `sigmas` are together: a single one with noise 1/mu; 0.0 for none."""
    return math.sqrt(math.fsum(1 / sigma**2 for sigma in sigmas))


def delta_of(epsilon: float, mu: float) -> float:
    """The smallest delta that goes with `epsilon` for a sum with noise 1/`mu`."""
    from scipy.special import log_ndtr, ndtr  # only now: it takes a moment, and commands that need none shall not wait

    if mu == 0:
        return 0.0
    # The second term is a product of a huge and a tiny number.
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2)))


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest epsilon that goes with `delta` for a sum with noise 1/`mu`."""
    if delta_of(0.0, mu) <= delta:
        return 0.0
    enough = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))  # by Rényi divergence
    return _root(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, enough)


def sigma_for(epsilon: float, delta: float, rounds: int) -> float:
    """The noise with which `rounds` sums over all units keep (epsilon, delta) together; never too little."""
    most = 1.0
    while delta_of(epsilon, most) < delta:
        most *= 2
    mu = _root(lambda mu: delta_of(epsilon, mu) - delta, 0.0, most)
    return math.sqrt(rounds) / (mu * (1 - _SLACK))


def poisson_epsilon(sigma: float, delta: float, rounds: int, rate: float) -> float:
    """The epsilon that `rounds` sums keep, in each of which each unit is with probability `rate`.

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
    """The noise with which `rounds` such sums keep (epsilon, delta), to a part in a thousand; never too little.

    Raises:
        UsageError: the package dp-accounting is not installed.
    """
    from scipy.optimize import brentq

    most = sigma_for(epsilon, delta, rounds)  # what sampling leaves out is only gained
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
    """Where the monotone `of` crosses zero between `low` and `high`, by halving."""
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
