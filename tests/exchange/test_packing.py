"""Bytes that anybody may have sent are packed arrays, or are refused in a short sentence, and quickly."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedpolyp.exchange.packing import ARRAYS, INDEX_BYTES, Malformed, carried, carried_bytes, pack, unpack
from tests.same_bits import equal

ARRAYS_SENT = {
    "encoder1_conv1/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "iterations": np.array(7),
    "odd": np.arange(3, dtype=np.uint8),
    "none": np.zeros((0, 4)),
}


def made(index: Any, rest: bytes = b"") -> bytes:
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def refused(packed: bytes) -> str:
    with pytest.raises(Malformed) as error:
        unpack(packed)
    said = str(error.value)
    assert said.isprintable() and len(said) <= 300
    return said


def test_arrays_come_back_as_they_were() -> None:
    assert equal(unpack(pack(ARRAYS_SENT)), ARRAYS_SENT)


@pytest.mark.parametrize(
    "kind", [",", "01f4,f4", "f4", ">f4", "|O", "<U4", "<m8", "|b1", "{'names':['a']}", "", "x" * 10**6]
)
def test_only_the_listed_strings_are_types(kind: str) -> None:
    assert "which is none of |u1, |i1" in refused(made([["w", kind, [1]]], bytes(8)))


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (made([["y" * 5_000_000, "<f4", [1]]], bytes(8)), f"at most {INDEX_BYTES}"),
        (made([["w", "<f4", [0]]] * 2_000_000), f"at most {INDEX_BYTES}"),
        (made([0] * (ARRAYS + 1)), f"not a list of at most {ARRAYS}"),
        (made([["y" * 201, "<f4", [1]]], bytes(8)), "not text of 1 to 200"),
        (made([["\x1b[2J", "<f4", [1]]], bytes(8)), "not text of 1 to 200"),
        (made([["w", "<f4", [1]], ["w", "<f4", [1]]], bytes(16)), "two packed arrays are called w"),
        (made([["w", "<f4", [1] * 9]], bytes(8)), "at most 8 dimensions"),
        (made([["w", "<f4", [2**40 - 1] * 8]], bytes(8)), "end before array w"),
        (made(b"[" * 100_000), "is not JSON"),
        (made(b"[" + b"9" * 100_000 + b"]"), "is not JSON"),
        (made(b"\xff\xfe\x00"), "is not JSON"),
        (made({"w": 1}), "is not a list"),
    ],
)
def test_limits_come_before_parsing(packed: bytes, said: str) -> None:
    assert said in refused(packed)


@settings(max_examples=150)
@given(st.binary(max_size=200))
@example(b"")
@example(bytes(8))
def test_no_bytes_raise_anything_but_a_refusal(packed: bytes) -> None:
    for sent in (packed, made(packed, packed)):
        try:
            unpack(sent)
        except Malformed:
            continue


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["<f4", "w"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=100)
@given(st.lists(st.lists(values, max_size=4) | values, max_size=3), st.binary(max_size=40))
def test_no_index_raises_anything_but_a_refusal(index: list[Any], rest: bytes) -> None:
    try:
        unpack(made(index, rest))
    except Malformed:
        return


def test_no_flipped_bit_of_packed_arrays_raises_anything_but_a_refusal() -> None:
    packed, outcomes = pack(ARRAYS_SENT), [0, 0]
    for place in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[place] ^= 1 << bit
            try:
                unpack(bytes(flipped))
                outcomes[0] += 1
            except Malformed:
                outcomes[1] += 1
    assert min(outcomes) > 100


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
@example([1.0, 1.00390625, 1.01171875, -0.0, 3.4e38, float("inf"), float("-inf"), float("nan"), 1e-45])
def test_bfloat16_is_rounded_to_the_nearest_ties_to_even_as_others_do_it(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found = unpack(pack({"w": array}, bfloat16=True))["w"]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert not found.flags.writeable


def test_in_bfloat16_weights_take_half_the_bytes_and_nothing_else_is_touched() -> None:
    arrays = {
        "w": np.linspace(-1, 1, 1000, dtype=np.float32).reshape(10, 100),
        "iterations": np.array(2**40 + 1),
        "losses": np.array([0.1, 0.2]),
        "none": np.zeros((0, 3), np.float32),
    }
    whole, half = pack(arrays), pack(arrays, bfloat16=True)
    assert len(whole) - len(half) == 2000
    assert carried_bytes(arrays, False) - carried_bytes(arrays, True) == 2000
    found = carried(arrays, True)
    assert found["iterations"] == 2**40 + 1 and found["losses"].tolist() == [0.1, 0.2]
    assert found["w"].shape == (10, 100) and found["none"].shape == (0, 3)
    assert 0 < np.abs(found["w"] - arrays["w"]).max() <= 2**-9
    # What was rounded once is rounded no more.
    assert equal(carried(found, True), found)
    assert carried(arrays, False) is arrays
