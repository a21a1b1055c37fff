"""A model's weights as named arrays, and what a federation needs to know and check about them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Name to array, in the model's own order: 'encoder1_conv1/kernel', …
Arrays = dict[str, NDArray[Any]]

_STATISTICS = ("/moving_mean", "/moving_variance")
NOT_FINITE = "has values that are not finite numbers"
# No weight, moment or statistic of a trainable model comes near: images are scaled to [0, 1].
LARGEST = 1e9
_BLOCK = 16_384  # values; a few such pieces fit in a core's own cache, where NumPy's passes over them are fast


def is_statistic(name: str) -> bool:
    """Whether `name` is a moving statistic of a normalization layer: averaged, but never optimized or noised."""
    return name.endswith(_STATISTICS)


def cannot_be_negative(name: str) -> bool:
    """Whether no value of array `name`, of a model or an optimizer, can be below zero.

    These are variances, the optimizer's second moments (`v/…`) and its step counter.
    """
    return name.endswith("/moving_variance") or name.startswith("v/") or name == "iterations"


def read(variables: Mapping[str, Any]) -> Arrays:
    """A copy of named Keras variables as arrays."""
    from tensorflow.raw_ops import ReadVariableOp  # a model is there, so TensorFlow is loaded

    # A variable's own methods take several times as long, here and below.
    values = {name: variable.value for name, variable in variables.items()}
    return {
        name: np.asarray(ReadVariableOp(resource=one.handle, dtype=one.dtype).numpy()) for name, one in values.items()
    }


def assign(variables: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` into the Keras variables of the same names, in place.

    Raises:
        ValueError: names or shapes differ.
        TypeError: a fraction would be written into a whole number.
    """
    fault = mismatch(arrays, {name: variable.shape for name, variable in variables.items()})
    if fault:
        raise ValueError(fault)
    from tensorflow.raw_ops import AssignVariableOp

    for name, variable in variables.items():
        one = variable.value
        value = np.asarray(arrays[name]).astype(one.dtype.as_numpy_dtype, casting="same_kind", copy=False)
        AssignVariableOp(resource=one.handle, value=value)


def mismatch(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What in `arrays` does not fit `shapes`, in words; None if everything fits and is finite."""
    missing = [name for name in shapes if name not in arrays]
    extra = [name for name in arrays if name not in shapes]
    if missing or extra:
        return f"array names differ: {len(missing)} missing {missing[:2]}, {len(extra)} unexpected {extra[:2]}"
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != tuple(shape):
            return f"array {name} has shape {array.shape}, expected {tuple(shape)}"
        if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
            return f"array {name} {NOT_FINITE}"
    return None


def fault(arrays: Mapping[str, NDArray[Any]], like: Mapping[str, NDArray[Any]]) -> str | None:
    """What in the received `arrays` cannot belong to the model or optimizer `like`, in words; None if everything fits.

    Names, shapes and types must be the same, values finite and no larger than `LARGEST`, and arrays that cannot be
    negative must not be.
    """
    if differs := mismatch(arrays, {name: array.shape for name, array in like.items()}):
        return differs
    for name, known in like.items():
        array = arrays[name]
        if array.dtype != known.dtype:
            return f"array {name} is {array.dtype}, expected {known.dtype}"
        lowest, highest = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if lowest < 0 and cannot_be_negative(name):
            return f"array {name} goes down to {lowest:g}, and cannot be negative"
        largest = LARGEST**2 if name.startswith("v/") else LARGEST  # of squares of gradients
        if max(abs(lowest), abs(highest)) > largest:
            return f"array {name} has values beyond {largest:g}"
    return None


def blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """The values of `arrays`, which have one shape, in float64 and piece by piece: (n,) from each of them."""
    flat = [np.reshape(array, -1) for array in arrays]
    for first in range(0, flat[0].size, _BLOCK):
        yield tuple(np.asarray(values[first : first + _BLOCK], np.float64) for values in flat)


def unwritable(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The same values, which cannot be written to; whoever has `arrays` themselves still can."""
    # NumPy's functions return a scalar where an array has no dimensions, and a scalar's flags cannot be set.
    views = {name: np.asarray(array).view() for name, array in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return views
