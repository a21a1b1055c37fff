"""The running mean is the mean of all updates, weighted; group by group, and never of nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.mean import WeightedMean
from fedpolyp.algorithms.base import plus
from fedpolyp.model.arrays import Arrays


def update(weight: float, hospital: str = "oslo", **groups: Arrays) -> Update:
    return Update(hospital, groups, weight, 1, 0.5, 1)


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_the_running_mean_is_the_weighted_mean_of_all_updates(updates: list[tuple[int, list[float]]]) -> None:
    mean = WeightedMean()
    for weight, values in updates:
        mean.add(update(weight, model={"w": np.array(values, np.float32)}))
    weights = [weight for weight, _ in updates]
    expected = np.average([values for _, values in updates], axis=0, weights=weights)
    result = mean.result().changes["model"]["w"]
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_each_group_has_its_own_mean_and_hospitals_are_named_in_their_order() -> None:
    mean = WeightedMean()
    mean.add(update(1, "oslo", model={"w": np.zeros(1, np.float32)}, optimizer={"w": np.ones(1, np.float32)}))
    mean.add(update(3, "bergen", model={"w": np.ones(1, np.float32)}, optimizer={"w": np.ones(1, np.float32)}))
    combined = mean.result()
    assert combined.hospitals == ("oslo", "bergen")
    assert {group: arrays["w"].tolist() for group, arrays in combined.changes.items()} == {
        "model": [0.75],
        "optimizer": [1.0],
    }


def test_an_update_that_was_added_is_not_changed_by_the_next() -> None:
    first = np.ones(2, np.float64)
    mean = WeightedMean()
    mean.add(update(1.0, model={"w": first}))
    mean.add(update(1.0, model={"w": np.full(2, 5.0)}))
    assert mean.result().changes["model"]["w"].tolist() == [3.0, 3.0] and first.tolist() == [1.0, 1.0]


def test_names_order_and_dtypes_are_those_of_the_model_and_counters_are_rounded() -> None:
    mean = WeightedMean()
    for steps in (10, 11, 11):
        changes = {"steps": np.array(steps), "b": np.ones(2, np.float32), "a": np.zeros(1, np.float32)}
        mean.add(update(1, model=changes))
    before = {"a": np.zeros(1, np.float32), "b": np.zeros(2, np.float32), "steps": np.array(0)}
    result = plus(before, mean.result().changes["model"])
    assert list(result) == ["a", "b", "steps"]
    assert [array.dtype for array in result.values()] == [np.float32, np.float32, np.int64]
    assert result["steps"] == 11 and result["b"].tolist() == [1, 1]


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        WeightedMean().result()
