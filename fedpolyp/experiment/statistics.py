"""The uncertainty of a mean score: intervals and tests over images, from five seeds on also over seeds; Holm's
correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95
# With fewer seeds an interval is about these models and other images. From this number on it also covers training, so
# it is about methods. Two to four seeds say too little about their own spread.
SEEDS_NEEDED = 5
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
    """The mean of `values` with its interval: over images only, or with enough seeds over both.

    With fewer than `SEEDS_NEEDED` seeds it is the percentile interval of `bootstrap_means`. With more it is Student's t
    interval with the variance of `_of_methods`. For the differences of two arms on the same images and seeds, this is
    their paired comparison, because the mean is linear.

    Args:
        values: (S, N), a row for each seed, a column for each image; both at least 1.
        groups: (N,), images with equal numbers are near-duplicates of each other.
        draws: of the bootstrap.
        random_seed: fixes them.
    """
    if len(values) < SEEDS_NEEDED:
        drawn = bootstrap_means(values, groups, draws, random_seed)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(float(values.mean()), float(low), float(high))
    from scipy.stats import t

    mean, error, freedom = _of_methods(values, groups)
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half)


def p_of_no_difference(differences: Values, groups: NDArray[np.intp]) -> float:
    """The two-sided p of two arms being equal, in [0, 1], from their differences (S, N) by seed and image.

    With fewer than `SEEDS_NEEDED` seeds it is about these models (`signed_rank`), with more about methods (Student's t,
    with the same error as the interval's).
    """
    if len(differences) < SEEDS_NEEDED:
        return signed_rank(differences, groups)
    from scipy.stats import t

    mean, error, freedom = _of_methods(differences, groups)
    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(abs(mean) / error, freedom))


def _of_methods(values: Values, groups: NDArray[np.intp]) -> tuple[float, float, float]:
    """The mean of `values` (S, N), its standard error over other seeds and other images, and the degrees of freedom.

    The squared error is the sum of two: the variance of the seeds' means over S, and the variance of the groups' means
    over their number G (of a ratio of sums, for groups of unequal size; Cochran, Sampling Techniques, 1977, ch. 6).
    Variation that belongs to an image and a seed together is in both, so the sum is rather too large. Degrees of
    freedom: Satterthwaite, Biometrics Bulletin 2(6), 1946, of S - 1 and G - 1.
    """
    seeds, images = values.shape
    _, member = np.unique(groups, return_inverse=True)
    of_seeds = float(values.mean(axis=1).var(ddof=1)) / seeds
    off = np.bincount(member, values.mean(axis=0) - values.mean())  # (G,), sums to 0
    count = len(off)
    of_images = count / (count - 1) * float((off**2).sum()) / images**2 if count > 1 else 0.0
    variance = of_seeds + of_images
    if variance == 0:
        return float(values.mean()), 0.0, seeds - 1.0
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_images**2 / max(1, count - 1))
    return float(values.mean()), float(np.sqrt(variance)), freedom


def bootstrap_means(values: Values, groups: NDArray[np.intp], draws: int = DRAWS, random_seed: int = 0) -> Values:
    """Means of `values` with other images: the seeds stay as they are.

    Whole groups of near-duplicate images are drawn with replacement (the cluster bootstrap; Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, ch. 8), each bringing all its images. Calls with the same groups and random
    seed draw the same groups.

    Args:
        values: (S, N), a row a seed, a column an image; both at least 1.
        groups: (N,), images with equal numbers are drawn together.
        draws: how many.
        random_seed: fixes them.

    Returns:
        (draws,) means over images and seeds.
    """
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.bincount(member, values.mean(axis=0))  # (G,)
    random = np.random.default_rng(np.random.SeedSequence(random_seed).spawn(1)[0])
    means = []
    for first in range(0, draws, _CHUNK):
        weights = _multiplicities(random, len(sizes), min(_CHUNK, draws - first))
        means.append(weights @ sums / (weights @ sizes))
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
