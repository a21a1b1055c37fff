"""Updates as integers modulo 2^64, so that their sum does not depend on the order of addition.

A number x of an update with weight w becomes round(x · 2^32) · w. The rounding error is at most 2^-33 = 1.2e-10, no
more than the last bit of a float32 weight above 0.001. The last word is w itself, so a sum contains its total weight.

Each of n hospitals may use numbers up to 2^62 / n, so an honest sum never wraps around. A sum that still has a mask on
it can be any number below 2^64, and half of these are no possible sum: with thousands of words it is always detected.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedpolyp.model.arrays import Arrays

Words = NDArray[np.uint64]

SCALE = 2.0**32
LARGEST_SUM = 2**62


class DoesNotFit(ValueError):
    """Numbers that are not finite or too large, or words that cannot be a sum of updates."""


def words_of(groups: Mapping[str, Arrays]) -> int:
    """The number of words into which `encode` turns arrays of these shapes."""
    return 1 + sum(array.size for _, _, array in _in_order(groups))


def encode(groups: Mapping[str, Arrays], weight: int, members: int) -> Words:
    """The arrays of an update times `weight` as words (N,), in the order of their names; the last word is `weight`.

    Args:
        groups: arrays of numbers by group.
        weight: at least 1.
        members: the largest number of hospitals whose words will be added up.

    Raises:
        DoesNotFit: a number is not finite or too large; nothing ever wraps around.
    """
    most = LARGEST_SUM // members
    if not 1 <= weight <= most:
        raise DoesNotFit(f"the weight of an update is 1 to {most} in a sum of {members}; got {weight}")
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
                f"array {name} of the {group} has larger numbers than {most / SCALE / weight:.3g}, which is allowed "
                f"with a weight of {weight} in a sum of {members} hospitals"
            )
        words[start : start + array.size] = scaled
        words[start : start + array.size] *= weight
        start += array.size
    words[start] = weight
    return words.view(np.uint64)


def decode(total: Words, like: Mapping[str, Arrays]) -> tuple[dict[str, dict[str, NDArray[np.float64]]], int]:
    """The weighted mean by group, and the sum of the weights, from a sum of words.

    Args:
        total: the sum of what `encode` made of several updates.
        like: the names and shapes of the arrays, by group.

    Raises:
        DoesNotFit: it cannot be a sum of updates.
    """
    signed = total.view(np.int64)
    if total.shape != (words_of(like),):
        raise DoesNotFit(f"a sum has {words_of(like)} words; got {total.shape}")
    weight = int(signed[-1])
    # The smallest number has no absolute value.
    if signed.min() < -LARGEST_SUM or signed.max() > LARGEST_SUM or weight < 1:
        raise DoesNotFit("the sum has impossible numbers: it still has a mask on it")
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
