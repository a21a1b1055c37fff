"""What a message holds fits the request and the model, or is refused before any work is done."""

import re
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from clients.work import _received, read_request
from fedpolyp.errors import Refusal
from fedpolyp.exchange.requests import Evaluate, Train
from fedpolyp.simulation.records import to_content, to_record
from tests.same_bits import equal

REQUEST = Train("hospital-1", 3, "{}", learning_rate=0.5)


def test_the_request_of_a_message_is_read() -> None:
    assert read_request(Train, to_content(REQUEST, {})) == REQUEST


def test_a_message_without_a_request_is_refused() -> None:
    with pytest.raises(Refusal, match="^the message holds no request$"):
        read_request(Train, RecordDict({"model": to_record({})}))


def test_a_request_of_another_kind_than_the_message_is_refused() -> None:
    with pytest.raises(Refusal, match="^a request to evaluate has the fields"):
        read_request(Evaluate, to_content(REQUEST, {}))


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
        _received(to_content(REQUEST, {"model": to_record(sent)}))("model", LIKE)
    assert equal(_received(to_content(REQUEST, {"model": to_record(LIKE)}))("model", LIKE), LIKE)


def test_a_message_that_lacks_weights_or_packs_something_else_is_refused() -> None:
    text = b'[["w", ",", [1]]]'.ljust(24)
    packed = len(text).to_bytes(8, "little") + text + bytes(8)
    record = ArrayRecord({"packed": Array(dtype="uint8", shape=(len(packed),), stype="packed", data=packed)})
    received = _received(to_content(REQUEST, {"model": record}))
    with pytest.raises(Refusal, match="is of type ',', which is none of"):
        received("model", LIKE)
    with pytest.raises(Refusal, match="^the message holds no optimizer$"):
        received("optimizer", LIKE)
