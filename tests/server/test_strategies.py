import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.strategies import WeightedMean


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_the_running_mean_is_the_weighted_mean_of_all_replies(replies: list[tuple[int, list[float]]]) -> None:
    mean = WeightedMean()
    for weight, values in replies:
        mean.add({"w": np.array(values, np.float32)}, weight)
    weights = [weight for weight, _ in replies]
    expected = np.average([values for _, values in replies], axis=0, weights=weights)
    result = mean.result({"w": np.zeros(3, np.float32)})["w"]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_names_order_and_dtypes_are_those_of_the_model_and_counters_are_rounded() -> None:
    mean = WeightedMean()
    for steps in (10, 11, 11):
        mean.add({"steps": np.array(steps), "b": np.ones(2, np.float32), "a": np.zeros(1, np.float32)}, 1)
    like = {"a": np.zeros(1, np.float32), "b": np.zeros(2, np.float32), "steps": np.array(0)}
    result = mean.result(like)
    assert list(result) == ["a", "b", "steps"]
    assert [array.dtype for array in result.values()] == [np.float32, np.float32, np.int64]
    assert result["steps"] == 11


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        WeightedMean().result({"w": np.zeros(1)})
