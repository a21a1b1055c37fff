"""Whether two models are the same to the bit."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray


def equal(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    """Whether both hold the same names with the same bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes() for name in one
    )
