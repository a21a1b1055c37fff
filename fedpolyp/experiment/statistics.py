"""How sure a mean score is: bootstrap intervals over images and seeds, a signed-rank test, and Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95
SEEDS_NEEDED = 3  # with fewer seeds there is nothing to resample: the interval is about images alone
_CHUNK = 1_000  # draws made at a time, so that a large held-out set does not fill the memory

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval of 95 %."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def estimate(values: Values, groups: NDArray[np.intp], draws: int = DRAWS, random_seed: int = 0) -> Estimate:
    """The mean of `values` and the percentile interval of `bootstrap_means`.

    Given the differences of two arms on the same images and seeds, this is their paired comparison: the mean is linear,
    so that both arms are drawn with the same weights.
    """
    low, high = np.quantile(bootstrap_means(values, groups, draws, random_seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def bootstrap_means(values: Values, groups: NDArray[np.intp], draws: int = DRAWS, random_seed: int = 0) -> Values:
    """Means of `values` in resampled experiments.

    Whole groups of near-duplicate images are drawn with replacement (the cluster bootstrap; Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, ch. 8), each bringing all its images; with three or more seeds, seeds too are
    drawn, independently of the groups (the pigeonhole bootstrap; Owen, Annals of Applied Statistics 1(2), 2007). Calls
    with the same groups and random seed draw the same groups.

    Args:
        values: (S, N), a row a seed, a column an image; both at least 1.
        groups: (N,), images with equal numbers are drawn together.
        draws: how many experiments.
        random_seed: fixes them.

    Returns:
        (draws,) means over images and seeds.
    """
    seeds = len(values)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(member, row) for row in values])  # (S, G)
    of_groups, of_seeds = (np.random.default_rng(seed) for seed in np.random.SeedSequence(random_seed).spawn(2))
    means = []
    for first in range(0, draws, _CHUNK):
        count = min(_CHUNK, draws - first)
        weights = _multiplicities(of_groups, len(sizes), count)
        drawn = weights @ sums.T / (weights @ sizes)[:, None]  # (count, S): each seed's mean
        # The rows of weights sum to the number of seeds.
        across = _multiplicities(of_seeds, seeds, count) if seeds >= SEEDS_NEEDED else np.ones((count, seeds))
        means.append((drawn * across).sum(axis=1) / seeds)
    return np.concatenate(means)


def _multiplicities(random: np.random.Generator, size: int, count: int) -> Values:
    """How often each of `size` things is drawn in `size` draws with replacement, (count, size)."""
    return random.multinomial(size, np.full(size, 1 / size), count).astype(np.float64)


def signed_rank(differences: Values, groups: NDArray[np.intp]) -> float:
    """The two-sided p of Wilcoxon's signed-rank test (Biometrics Bulletin 1(6), 1945) on the groups' mean differences.

    Args:
        differences: (S, N), of two arms, by seed and image; seeds are averaged first.
        groups: (N,), images with equal numbers make one observation.

    Returns:
        in (0, 1]; 1 when no group differs. Groups without a difference are left out, as Wilcoxon did.
    """
    from scipy.stats import wilcoxon

    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(member, differences.mean(axis=0)) / sizes
    means = means[means != 0]
    return float(wilcoxon(means).pvalue) if len(means) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being reported together, in their order (Holm, Scand. J. Statistics 6(2), 1979).

    The k-th smallest of m is multiplied by m - k + 1, never falls below the one before it, and is 1 at most.
    """
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        floor = min(1.0, max(floor, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted
