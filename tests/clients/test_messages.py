"""An order arrives as it was sent, or is refused with what is wrong with it."""

import re
from typing import Any

import numpy as np
import pytest
from clients.messages import SETS, Order, arrays_of, content_of, from_record, order_of, to_record
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.model.arrays import equal
from fedpolyp.sites.settings import Refusal

ORDER = Order("hospital-1", 3, "{}", learning_rate=0.5, score_set="test", distances=True, keep_state_from=2)

orders = st.builds(
    Order,
    hospital=st.text(max_size=64),
    round=st.integers(0, 100_000),
    config=st.text(),
    learning_rate=st.floats(0, 1),
    score_set=st.sampled_from(SETS),
    distances=st.booleans(),
    keep_state_from=st.integers(0, 100_000),
    run=st.text(max_size=32),
    run_folder=st.text(),
    store=st.text(),
)


@given(orders)
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    assert Order.from_record(order.to_record()) == order


def refusal(plain: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="order") as refused:
        Order.from_record(ConfigRecord(plain))
    return str(refused.value)


@pytest.mark.parametrize("name", list(ORDER.to_record()))
def test_an_order_that_lacks_a_field_is_refused(name: str) -> None:
    plain = dict(ORDER.to_record())
    del plain[name]
    said = refusal(plain)
    assert said.startswith("an order has the fields [") and said.endswith(f"; got {sorted(plain)}")


def test_an_order_with_an_unknown_field_is_refused() -> None:
    assert "'shell'" in refusal(dict(ORDER.to_record()) | {"shell": "rm"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hospital", 1),
        ("round", "3"),
        ("round", 3.0),
        ("round", True),
        ("config", b"{}"),
        ("learning_rate", 1),
        ("score_set", ["val"]),
        ("distances", 1),
        ("keep_state_from", 0.0),
        ("run_folder", 0),
        ("store", False),
    ],
)
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    said = refusal(dict(ORDER.to_record()) | {name: value})
    assert said.startswith(f"the order's {name} must be of ") and said.endswith(f"; got {value!r}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", -0.1),
        ("learning_rate", 1.1),
        ("round", -1),
        ("round", 10**18),
        ("keep_state_from", 10**18),
        ("config", "x" * 10_000_000),
        ("hospital", "x" * 65),
        ("run", "0" * 65),
        ("store", "/" * 5000),
    ],
)
def test_a_field_beyond_its_limit_is_refused_in_a_short_sentence(name: str, value: Any) -> None:
    said = refusal(dict(ORDER.to_record()) | {name: value})
    assert said.startswith(f"the order's {name} m") and len(said) < 200


@pytest.mark.parametrize(
    "plain",
    [
        {"\x1b[2J" + "y" * 5_000_000: 1},
        {f"field{number}": 1 for number in range(100_000)},
        {"hospital": ["\x1b]0;owned"] * 100_000},
    ],
)
def test_a_flood_or_an_escape_sequence_does_not_reach_the_refusal(plain: dict[str, Any]) -> None:
    said = refusal(dict(ORDER.to_record()) | plain)
    assert len(said) < 1500 and said.isprintable()


@pytest.mark.parametrize("score_set", ["train", "", "VAL"])
def test_a_hospital_scores_no_set_but_validation_and_test(score_set: str) -> None:
    said = refusal(dict(ORDER.to_record()) | {"score_set": score_set})
    assert said == f"the order's score_set must be one of ('val', 'test'); got {score_set!r}"


def test_a_messages_content_gives_back_order_and_arrays() -> None:
    weights, moments = {"w": np.arange(3.0)}, {"iterations": np.array(4)}
    content = content_of(ORDER, to_record(weights), to_record(moments))
    assert order_of(content) == ORDER
    assert equal(from_record(content.array_records["arrays"]), weights)
    assert equal(from_record(content.array_records["optimizer"]), moments)
    assert "optimizer" not in content_of(ORDER, to_record(weights))


def test_a_message_without_an_order_is_refused() -> None:
    with pytest.raises(Refusal, match="^the message holds no order$"):
        order_of(RecordDict({"arrays": to_record({})}))


LIKE = {"w": np.zeros(3, np.float32), "n/moving_variance": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "array names differ: 2 missing"),
        (LIKE | {"w": np.zeros(3)}, "array w is float64, expected float32"),
        (LIKE | {"w": np.full(3, np.nan, np.float32)}, "array w has values that are not finite numbers"),
        (LIKE | {"w": np.full(3, 1e30, np.float32)}, "array w has values beyond 1e+09"),
        (LIKE | {"n/moving_variance": np.full(2, -1, np.float32)}, "array n/moving_variance goes down to -1"),
    ],
)
def test_weights_that_do_not_fit_the_model_are_refused_by_the_hospital(sent: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=f"^{re.escape(said)}"):
        arrays_of(content_of(ORDER, to_record(sent)), "arrays", LIKE)
    assert equal(arrays_of(content_of(ORDER, to_record(LIKE)), "arrays", LIKE), LIKE)


def test_a_message_that_lacks_weights_or_packs_something_else_is_refused() -> None:
    content = content_of(ORDER, packed(index('[["w", ",", [1]]]', bytes(8))))
    with pytest.raises(Refusal, match="is of type ',', which is none of"):
        arrays_of(content, "arrays", LIKE)
    with pytest.raises(Refusal, match="^the message holds no optimizer$"):
        arrays_of(content, "optimizer", LIKE)


def packed(content: bytes) -> ArrayRecord:
    return ArrayRecord({"packed": Array(dtype="uint8", shape=(len(content),), stype="packed", data=content)})


def index(text: str, rest: bytes = b"") -> bytes:
    padded = text.ljust(len(text) + -len(text) % 8)
    return len(padded).to_bytes(8, "little") + padded.encode() + rest


@pytest.mark.parametrize("piece", [8, 64, 4096])
def test_large_arrays_travel_in_pieces_so_that_a_broken_link_costs_one_of_them(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"m/kernel": np.arange(100, dtype=np.float32).reshape(4, 25), "seen": np.array(3)}
    whole = to_record(arrays)
    monkeypatch.setattr("clients.messages._PIECE", piece)
    record = to_record(arrays)
    assert equal(from_record(record), arrays)
    sizes = [len(array.data) for array in record.values()]
    assert max(sizes) <= piece and set(sizes[:-1]) <= {piece} and sum(sizes) == len(whole["packed"].data)
    if len(sizes) > 1:
        names = list(record)
        for wrong in (names[1:], [names[0], *names[2:]], [*names[1:], names[0]]):
            with pytest.raises(ValueError):
                from_record(ArrayRecord({name: record[name] for name in wrong}))


@pytest.mark.parametrize(
    "record",
    [
        ArrayRecord({"w": Array(np.zeros(3))}),
        ArrayRecord({"packed": Array(np.frombuffer(index("[]"), np.uint8))}),
        packed(b""),
        packed(index("not json")),
        packed(index('[["w", "|O", [1]]]', bytes(8))),
        packed(index('[["w", "<f4", [-1]]]', bytes(4))),
        packed(index('[["w", "<f4", [2]]]', bytes(4))),
        packed(index('[["w", "<f4", [1]]]', bytes(9))),
        packed(index('[["w", "<f4", [9223372036854775808]]]', bytes(8))),
        packed(index('[["w", "<f4", [1e3]]]', bytes(8))),
        packed(index('[["w", [], [1]]]', bytes(8))),
        packed(index('[["w", "<f4"]]', bytes(4))),
        packed(index("7")),
        packed((2**60).to_bytes(8, "little")),
    ],
)
def test_what_is_no_packed_arrays_is_told_in_words(record: ArrayRecord) -> None:
    with pytest.raises(ValueError):
        from_record(record)


def test_arrays_are_neither_copied_on_arrival_nor_open_to_writing() -> None:
    record = to_record({"odd": np.zeros(3, np.uint8), "w": np.arange(3.0)})
    arrays = from_record(record)
    packed = np.frombuffer(record["packed"].data, np.uint8)
    assert all(np.shares_memory(packed, array) and array.flags.aligned for array in arrays.values())
    with pytest.raises(ValueError, match="read-only"):
        arrays["w"][0] = 1


def test_many_arrays_travel_as_one() -> None:
    assert len(to_record({f"w{number}": np.zeros(3) for number in range(240)})) == 1
