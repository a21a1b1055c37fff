"""Updates as whole numbers modulo 2^64, so that their sum is the same in whatever order they are added.

A number x of an update that weighs w becomes round(x · 2^32) · w. Rounding costs 2^-33 = 1.2e-10 at most, no more than
the last bit of a float32 weight above 0.001. The last word is w itself: a sum says what all that is in it weighs.

Each of n hospitals may use an n-th of the numbers up to 2^62. So an honest sum never wraps around; and a sum with a
mask left on it, which is any number below 2^64, is found out: half of all numbers are none that a sum can have.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedpolyp.model.arrays import Arrays

Words = NDArray[np.uint64]

SCALE = 2.0**32
LARGEST_SUM = 2**62


class DoesNotFit(ValueError):
    """Numbers that are not finite or too large, or a sum that is none."""


def words_of(groups: Mapping[str, Arrays]) -> int:
    """How many words `encode` makes of arrays like these, by group."""
    return 1 + sum(array.size for _, _, array in _in_order(groups))


def encode(groups: Mapping[str, Arrays], weight: int, members: int) -> Words:
    """The arrays of an update that weighs `weight`, group after group by name, as words (N,); `weight` is the last.

    Args:
        groups: arrays of numbers by group.
        weight: at least 1.
        members: how many hospitals' words are to be added up at most.

    Raises:
        DoesNotFit: a number is not finite or too large; nothing ever wraps around.
    """
    most = LARGEST_SUM // members
    if not 1 <= weight <= most:
        raise DoesNotFit(f"an update weighs 1 to {most} where {members} are added up; got {weight}")
    words = np.empty(words_of(groups), np.int64)
    start = 0
    for group, name, array in _in_order(groups):
        with np.errstate(over="ignore"):
            scaled = np.rint(array.astype(np.float64).reshape(-1) * SCALE)
        largest = float(np.abs(scaled).max(initial=0.0))
        if not np.isfinite(largest):
            raise DoesNotFit(f"array {name} of the {group} has values that are not finite numbers")
        if int(largest) * weight > most:
            raise DoesNotFit(
                f"array {name} of the {group} goes up to {largest / SCALE:.3g}; with a weight of {weight} a sum over "
                f"{members} hospitals takes {most / SCALE / weight:.3g} at most"
            )
        words[start : start + array.size] = scaled
        words[start : start + array.size] *= weight
        start += array.size
    words[start] = weight
    return words.view(np.uint64)


def decode(total: Words, like: Mapping[str, Arrays]) -> tuple[dict[str, dict[str, NDArray[np.float64]]], int]:
    """The weighted mean of arrays like those in `like`, by group, and the sum of the weights, out of a sum of words.

    Raises:
        DoesNotFit: it is no sum that `encode` allows for.
    """
    signed = total.view(np.int64)
    if total.shape != (words_of(like),):
        raise DoesNotFit(f"a sum has {words_of(like)} words; got {total.shape}")
    weight = int(signed[-1])
    # The smallest number has no absolute value.
    if signed.min() < -LARGEST_SUM or signed.max() > LARGEST_SUM or weight < 1:
        raise DoesNotFit("the sum has numbers that no updates add up to: a mask is left on it")
    means: dict[str, dict[str, NDArray[np.float64]]] = {group: {} for group in like}
    start = 0
    for group, name, array in _in_order(like):
        means[group][name] = signed[start : start + array.size].reshape(array.shape) / SCALE / weight
        start += array.size
    return means, weight


def _in_order(groups: Mapping[str, Arrays]) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    for group in sorted(groups):
        for name in sorted(groups[group]):
            yield group, name, groups[group][name]
