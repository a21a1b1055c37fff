"""Named arrays survive the journey to a hospital bit by bit, and what does not fit is said in words."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpolyp.model.arrays import Arrays, assign, blocks, is_statistic, mismatch, read, unwritable
from fedpolyp.simulation.records import from_record, to_record
from tests.same_bits import equal

kinds = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint32, np.uint8])
some_arrays = st.dictionaries(
    st.text(min_size=1, max_size=20).filter(str.isprintable),
    hnp.arrays(kinds, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)),
    max_size=5,
)


def variables() -> dict[str, Any]:
    start = {"conv/kernel": np.ones((2, 3), "float32"), "conv/bias": np.zeros(3, "float32")}
    return {name: keras.Variable(array) for name, array in start.items()}


def fitting() -> Arrays:
    return {"conv/kernel": np.full((2, 3), 5, np.float32), "conv/bias": np.arange(3, dtype=np.float32)}


SHAPES = {"conv/kernel": (2, 3), "conv/bias": (3,)}


@given(some_arrays)
def test_flower_carries_arrays_to_the_bit_and_in_order(arrays: Arrays) -> None:
    back = from_record(to_record(arrays))
    assert equal(back, arrays) and list(back) == list(arrays)
    assert [array.shape for array in back.values()] == [array.shape for array in arrays.values()]


@given(some_arrays)
def test_equal_sees_every_difference(arrays: Arrays) -> None:
    assert equal(arrays, {name: array.copy() for name, array in arrays.items()})
    for name, array in arrays.items():
        without = {known: other for known, other in arrays.items() if known != name}
        assert not equal(arrays, without) and not equal(without, arrays)
        assert not equal(arrays, arrays | {name: array.astype("S4")})
        if array.size:
            bits = bytearray(array.tobytes())
            bits[-1] ^= 1
            flipped = np.frombuffer(bytes(bits), array.dtype).reshape(array.shape)
            assert not equal(arrays, arrays | {name: flipped})


def test_equal_tells_the_same_bits_of_another_type_apart() -> None:
    assert not equal({"a": np.zeros(2, np.float32)}, {"a": np.zeros(2, np.int32)})


def test_equal_takes_minus_zero_and_nan_as_bits() -> None:
    zero, minus, nan = (np.array([value], np.float32) for value in (0.0, -0.0, np.nan))
    assert equal({"a": nan}, {"a": nan.copy()})
    assert not equal({"a": zero}, {"a": minus})


def test_what_is_assigned_is_read_back_as_a_copy() -> None:
    held = variables()
    assign(held, fitting())
    first = read(held)
    assert equal(first, fitting()) and list(first) == list(held)
    held["conv/bias"].assign(np.full(3, 9, np.float32))
    assert equal(first, fitting())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"conv/bias": None}, "array names differ: 1 missing ['conv/bias'], 0 unexpected []"),
        ({"a": 1, "b": 1, "c": 1}, "array names differ: 0 missing [], 3 unexpected ['a', 'b']"),
        ({"conv/bias": np.zeros((3, 1))}, "array conv/bias has shape (3, 1), expected (3,)"),
        ({"conv/bias": np.array([0, np.nan, 0])}, "array conv/bias has values that are not finite numbers"),
        ({"conv/kernel": np.full((2, 3), -np.inf)}, "array conv/kernel has values that are not finite numbers"),
        ({"conv/bias": np.array(["a", "b", "c"])}, "array conv/bias has values that are not finite numbers"),
        ({"conv/bias": np.zeros(3, complex)}, "array conv/bias has values that are not finite numbers"),
    ],
)
def test_mismatch_says_what_does_not_fit(changes: dict[str, Any], said: str | None) -> None:
    arrays = {name: array for name, array in (fitting() | changes).items() if array is not None}
    assert mismatch(arrays, SHAPES) == said


def test_assign_refuses_what_does_not_fit_and_changes_nothing() -> None:
    held = variables()
    before = read(held)
    for wrong in ({"conv/bias": np.zeros(4, np.float32)}, {"conv/bias": np.full(3, np.nan)}, {"other": np.zeros(3)}):
        with pytest.raises(ValueError, match="^array"):
            assign(held, fitting() | wrong)
        assert equal(read(held), before)


def test_moving_statistics_are_told_from_weights_by_name() -> None:
    statistics = ["bridge_conv1_norm/moving_mean", "bridge_conv1_norm/moving_variance"]
    weights = ["bridge_conv1/kernel", "bridge_conv1_norm/gamma", "bridge_conv1_norm/beta", "moving_mean/kernel"]
    assert [is_statistic(name) for name in statistics + weights] == [True] * 2 + [False] * 4


def test_a_fraction_is_not_cut_to_fit_a_counter() -> None:
    counter = {"iterations": keras.Variable(3, dtype="int64", trainable=False)}
    with pytest.raises(TypeError):
        assign(counter, {"iterations": np.asarray(2.7)})
    assign(counter, {"iterations": np.asarray(5)})
    assert read(counter)["iterations"] == 5


def test_blocks_hold_every_value_of_each_array_in_order() -> None:
    one = np.arange(200 * 301, dtype=np.float32).reshape(200, 301)
    pieces = list(blocks(one, -one.T))
    assert len(pieces) > 3 and all(value.dtype == np.float64 for piece in pieces for value in piece)
    for number, array in enumerate((one, -one.T)):
        assert np.array_equal(np.concatenate([piece[number] for piece in pieces]), array.reshape(-1))


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.float32(2)])
def test_blocks_of_no_value_and_of_a_single_one(array: Any) -> None:
    assert sum(values.size for (values,) in blocks(np.asarray(array))) == np.size(array)


def test_a_scalar_becomes_an_array_that_cannot_be_written_to() -> None:
    scalar: Any = np.float32(3)  # what NumPy's functions return for an array of no dimensions
    (array,) = unwritable({"steps": scalar}).values()
    assert array.shape == () and array == 3
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 4
