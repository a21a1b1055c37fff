"""Requests, replies and arrays travel as Flower's records, and what is none is told in words."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Train
from fedpolyp.simulation.records import RecordContent, from_record, plain_request, to_content, to_record, to_reply
from tests.same_bits import equal

REQUEST = Train("hospital-1", 3, "{}", counted=2, learning_rate=0.5, keep_from=2)


def test_a_messages_content_gives_back_request_and_arrays() -> None:
    weights, moments = {"w": np.arange(3.0)}, {"iterations": np.array(4)}
    content = to_content(REQUEST, {"model": to_record(weights), "optimizer": to_record(moments)})
    assert Train.from_plain(plain_request(content)) == REQUEST
    assert equal(from_record(content.array_records["model"]), weights)
    assert equal(from_record(content.array_records["optimizer"]), moments)
    assert list(to_content(REQUEST, {"model": to_record(weights)}).array_records) == ["model"]


def test_a_message_without_a_request_says_nothing_of_it() -> None:
    assert plain_request(RecordDict({"model": to_record({})})) == {}


def test_a_reply_gives_back_what_a_hospital_answered_and_its_process() -> None:
    answer = Answer({"images": 10, "train_loss": 0.1 + 0.2}, {"model": {"w": np.arange(3.0)}, "none": {}})
    content = RecordContent(to_reply(answer, 7))
    assert dict(content.said) == {"images": 10, "train_loss": 0.1 + 0.2, "process": 7}
    assert set(content.groups) == {"model", "none"}
    for group in ("model", "none", "never sent"):
        assert equal(content.arrays(group), answer.arrays(group))


def test_a_reply_that_says_nothing_is_one() -> None:
    content = RecordContent(RecordDict({}))
    assert (dict(content.said), set(content.groups), content.arrays("model")) == ({}, set(), {})


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
    monkeypatch.setattr("fedpolyp.simulation.records._PIECE", piece)
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
