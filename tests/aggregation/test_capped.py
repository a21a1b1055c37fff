"""Weights of which none is above a share, and the mean of updates for each step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.capped import Capped, capped
from fedpolyp.aggregation.mean import WeightedMean


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_capped_weights_sum_to_one_and_none_is_above_the_share_or_out_of_order(
    weights: list[float], share: float
) -> None:
    found = capped(weights, share)
    assert sum(found) == pytest.approx(1)
    assert max(found) <= max(share, 1 / len(weights)) + 1e-9
    assert all(
        found[a] <= found[b] + 1e-9 for a in range(len(found)) for b in range(len(found)) if weights[a] <= weights[b]
    )


def test_what_is_taken_off_goes_to_the_others_in_proportion() -> None:
    np.testing.assert_allclose(capped([80, 10, 10], 0.4), [0.4, 0.3, 0.3])
    np.testing.assert_allclose(capped([60, 30, 10], 0.4), [0.4, 0.4, 0.2])
    np.testing.assert_allclose(capped([1, 2, 3], 1.0), [1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(capped([1, 2], 0.3), [0.5, 0.5])


def test_the_capped_mean_is_the_mean_with_those_weights() -> None:
    mean = Capped(0.4, WeightedMean)
    for hospital, (weight, value) in {"a": (80.0, 1.0), "b": (10.0, 2.0), "c": (10.0, 4.0)}.items():
        mean.add(Update(hospital, {"model": {"w": np.array([value])}}, weight, int(weight), 0.0, 1))
    combined = mean.result()
    np.testing.assert_allclose(combined.changes["model"]["w"], 0.4 * 1 + 0.3 * 2 + 0.3 * 4)
    assert combined.hospitals == ("a", "b", "c")
