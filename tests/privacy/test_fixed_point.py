"""Updates as whole numbers: nothing wraps around, only last bits are lost, and no masked sum passes for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.fixed_point import LARGEST_SUM, SCALE, DoesNotFit, decode, encode

Groups = dict[str, Arrays]
numbers = st.floats(-1000, 1000, width=32)
updates = st.lists(
    st.tuples(st.lists(numbers, min_size=3, max_size=3), st.integers(1, 100_000)), min_size=1, max_size=6
)


def groups(values: list[float]) -> Groups:
    """Two groups, which are not in the order of their names."""
    first, *rest = values
    return {"model": {"b": np.array(rest, np.float32), "a": np.array([[first]], np.float32)}, "control": {}}


@given(updates)
def test_a_sum_is_the_weighted_mean_to_the_rounding_of_a_number(of: list[tuple[list[float], int]]) -> None:
    total = np.zeros(4, np.uint64)
    for values, weight in of:
        total += encode(groups(values), weight, len(of))
    means, weight = decode(total, groups(of[0][0]))
    assert weight == sum(weight for _, weight in of)
    for place, (name, shape) in enumerate((("a", (1, 1)), ("b", (2,)), ("b", (2,)))):
        exact = sum(np.float64(values[place]) * own for values, own in of) / weight
        found = means["model"][name]
        assert found.shape == shape
        assert abs(found.reshape(-1)[max(0, place - 1)] - exact) <= 2.0**-33 + 1e-12 * abs(exact)
    assert means["control"] == {}


@given(value=numbers, weight=st.integers(1, 10**7), members=st.integers(1, 10**6))
def test_what_fits_is_exact_and_all_else_is_refused_never_wrapped(value: float, weight: int, members: int) -> None:
    exact = round(float(np.float32(value)) * SCALE) * weight
    if abs(exact) > LARGEST_SUM // members or weight > LARGEST_SUM // members:
        with pytest.raises(DoesNotFit):
            encode(groups([value, 0, 0]), weight, members)
    else:
        words = encode(groups([value, 0, 0]), weight, members).view(np.int64)
        assert [int(word) for word in words] == [exact, 0, 0, weight]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -(2.0**30) - 1])
def test_what_is_not_finite_or_too_large_is_named(value: float) -> None:
    given: Groups = {"model": {"a/kernel": np.array([0.5, value])}}
    with pytest.raises(DoesNotFit, match="array a/kernel of the model"):
        encode(given, 1, 1)


@pytest.mark.parametrize("weight", [0, -3, LARGEST_SUM])
def test_an_impossible_weight_is_refused(weight: int) -> None:
    with pytest.raises(DoesNotFit, match="the weight of an update is 1 to"):
        encode(groups([0, 0, 0]), weight, 2)


def test_the_largest_updates_of_all_hospitals_add_up_without_wrapping() -> None:
    largest = float(2**30 // 4)
    total = sum((encode(groups([largest, -largest, 0]), 1, 4) for _ in range(4)), np.zeros(4, np.uint64))
    means, _ = decode(total, groups([0, 0, 0]))
    assert means["model"]["a"][0, 0] == largest and means["model"]["b"][0] == -largest


@pytest.mark.parametrize("words", [[2**62 + 1, 0, 0, 1], [0, 2**63, 0, 1], [0, 0, 0, 0], [0, 0, 0, 2**64 - 5], [0, 1]])
def test_what_no_updates_add_up_to_is_no_sum(words: list[int]) -> None:
    with pytest.raises(DoesNotFit):
        decode(np.array(words, np.uint64), groups([0, 0, 0]))
