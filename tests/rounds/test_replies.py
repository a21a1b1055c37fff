"""Every reply is hostile: it is read as what was asked for, or refused in a short sentence; nothing else comes out."""

import random
import re
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import minus, plus
from fedpolyp.config import load
from fedpolyp.exchange.packing import pack
from fedpolyp.exchange.replies import Reply
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.replies import BadReply, NotFinite, read_scores, read_update
from fedpolyp.simulation import records
from fedpolyp.simulation.records import RecordContent, to_record
from server.exchange import _process

WEIGHTS: Arrays = {
    "conv/kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "norm/moving_mean": np.zeros(4, np.float32),
    "norm/moving_variance": np.ones(4, np.float32),
}
MOMENTS: Arrays = {
    "iterations": np.array(8, np.int64),
    "m/conv/kernel": np.zeros((3, 4), np.float32),
    "v/conv/kernel": np.ones((3, 4), np.float32),
}
SENT = {"model": WEIGHTS, "optimizer": MOMENTS}
STEPS = 6  # 10 images in batches of 4, twice
CONFIG = load(overrides={"training.batch_size": 4, "training.local_epochs": 2})
SIDE = 8
MOVED = MOMENTS | {"iterations": np.array(8 + STEPS, np.int64)}


def difference(values: Arrays, sent: Arrays) -> Arrays:
    """How `values`, which may be whatever a test likes, differ from what was sent."""
    with np.errstate(over="ignore", invalid="ignore"):
        return minus(values, sent)


def reply(weights: Arrays | None = None, moments: Arrays | None = None, **said: Any) -> Reply:
    """The reply to a training, with some of the values that it leads to changed."""
    about = {"images": 10, "train_loss": 0.5, "steps": STEPS, "process": 7} | said
    records = {
        "model": to_record(difference(WEIGHTS | (weights or {}), WEIGHTS)),
        "optimizer": to_record(difference(MOVED | (moments or {}), MOMENTS)),
    }
    return Reply("oslo", RecordContent(RecordDict({**records, "metrics": MetricRecord(about)})))


def record_of(reply: Reply) -> RecordDict:
    """What Flower carries of it."""
    assert isinstance(reply.content, RecordContent)
    return reply.content.record


def read(sent: Reply) -> Update:
    return read_update(sent, SENT, SENT, CONFIG, 1)


def refused(sent: Reply) -> str:
    with pytest.raises(BadReply) as error:
        read(sent)
    said = str(error.value)
    assert said.isprintable() and len(said) <= 300
    return said


def test_an_honest_update_is_read() -> None:
    update = read(reply())
    assert (update.hospital, update.images, update.weight) == ("oslo", 10, 10.0)
    assert (update.loss, update.steps) == (0.5, STEPS)
    assert {group: list(arrays) for group, arrays in update.changes.items()} == {
        group: list(arrays) for group, arrays in SENT.items()
    }
    assert update.changes["optimizer"]["iterations"] == STEPS


def test_a_difference_that_wraps_around_is_refused() -> None:
    content = record_of(reply())
    wrapping = difference(MOVED, MOMENTS) | {"iterations": np.array(2**63 - 1, np.int64)}
    content["optimizer"] = to_record(wrapping)
    assert "iterations goes down to -9.2" in refused(Reply("oslo", RecordContent(content)))


def test_an_update_is_the_difference_from_what_that_hospital_was_sent() -> None:
    # Both are the same bytes: whether they lead to values that can be depends on where they start.
    sent = reply({"norm/moving_variance": np.full(4, 0.5, np.float32)})
    assert read(sent).changes["model"]["norm/moving_variance"].tolist() == [-0.5] * 4
    lower = {**SENT, "model": WEIGHTS | {"norm/moving_variance": np.full(4, 0.25, np.float32)}}
    with pytest.raises(BadReply, match="norm/moving_variance goes down to -0.25"):
        read_update(sent, lower, SENT, CONFIG, 1)


def test_what_was_not_sent_is_read_as_it_is() -> None:
    content = record_of(reply())
    content["added"] = to_record({"w": np.full(2, 0.5, np.float32)})
    like = {**SENT, "added": {"w": np.zeros(2, np.float32)}}
    update = read_update(Reply("oslo", RecordContent(content)), SENT, like, CONFIG, 1)
    assert update.changes["added"]["w"].tolist() == [0.5, 0.5]


def test_arrays_that_nobody_has_asked_for_are_refused() -> None:
    content = record_of(reply())
    content["patients"] = to_record({"w": np.zeros(2, np.float32)})
    assert refused(Reply("oslo", RecordContent(content))) == "it sends patients, which was not asked for"


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"norm/moving_variance": np.array([1, 1, 1, -100], np.float32)}, "norm/moving_variance goes down to -100"),
        ({"conv/kernel": np.full((3, 4), 1e30, np.float32)}, "conv/kernel has values beyond 1e+09"),
        ({"norm/moving_mean": np.full(4, -2e9, np.float32)}, "norm/moving_mean has values beyond 1e+09"),
        ({"conv/kernel": WEIGHTS["conv/kernel"].astype(np.float64)}, "is float64, expected float32"),
        ({"more": np.zeros(1, np.float32)}, "0 missing [], 1 unexpected ['more']"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: Arrays, said: str) -> None:
    assert said in refused(reply(weights))


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        ({"iterations": np.array(-1000, np.int64)}, "iterations goes down to -1000"),
        ({"iterations": np.array(8 + STEPS + 1, np.int64)}, "counts 7 steps, but it took 6"),
        ({"iterations": np.array(2**62, np.int64)}, "iterations has values beyond"),
        ({"iterations": np.array(8 - 2**63, np.int64)}, "iterations goes down to -9.2"),
        ({"v/conv/kernel": np.full((3, 4), -1, np.float32)}, "v/conv/kernel goes down to -1"),
        ({"v/conv/kernel": np.full((3, 4), 1e20, np.float32)}, "v/conv/kernel has values beyond"),
    ],
)
def test_an_optimizers_state_that_cannot_be_is_refused(moments: Arrays, said: str) -> None:
    assert said in refused(reply(moments=moments))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"images": 10**9}, "steps, which 1000000000 images do not take"),
        ({"images": 0}, "0 images"),
        ({"images": [4] * 100_000}, "images and a training loss"),
        ({"images": 2**63, "steps": 1}, "do not take"),
        ({"steps": STEPS + 1}, "7 steps"),
        ({"steps": 6.0}, "6.0 steps"),
        ({"train_loss": 1.7e308}, "training loss of 1.7e+308"),
        ({"train_loss": -5.0}, "training loss of -5"),
        ({"train_loss": 1}, "training loss of 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(said: dict[str, Any], why: str) -> None:
    assert why in refused(reply(**said))


@pytest.mark.parametrize(
    "sent",
    [
        reply({"conv/kernel": np.full((3, 4), np.nan, np.float32)}),
        reply(train_loss=float("nan")),
        reply(train_loss=float("inf")),
    ],
)
def test_a_training_that_diverged_is_told_from_other_bad_replies(sent: Reply) -> None:
    with pytest.raises(NotFinite):
        read(sent)


def test_a_failure_and_an_empty_reply_are_refused() -> None:
    assert refused(Reply("oslo", None, "no power")) == "no power"
    assert refused(Reply("oslo", RecordContent(RecordDict()))) == "it reports None images and a training loss of None"


@pytest.mark.parametrize("error", [SyntaxError, RecursionError, MemoryError, KeyError, OverflowError])
def test_whatever_goes_wrong_in_reading_a_reply_is_a_refusal_of_it(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(record: ArrayRecord) -> Arrays:
        raise error

    monkeypatch.setattr(records, "from_record", fails)
    assert refused(reply()) == f"it cannot be read: {error.__name__}"


def scores(counts: Any = None, losses: Any = None, **others: Any) -> Reply:
    sent = {
        "counts": np.full((5, 4), SIDE**2 // 4) if counts is None else np.asarray(counts),
        "losses": np.full(5, 0.25) if losses is None else np.asarray(losses),
    }
    return Reply("oslo", RecordContent(RecordDict({"scores": to_record(sent | others)})))


@pytest.mark.parametrize(
    ("sent", "distances", "why"),
    [
        (scores([[2**63 - 1, 2**63 - 1, 2, SIDE**2]]), False, "do not add up to the 64 pixels"),
        (scores(np.array([[2**64 - 1, 1, 0, SIDE**2]], np.uint64)), False, "do not add up to the 64 pixels"),
        (scores(np.full((5, 4), -16)), False, "do not add up to the 64 pixels"),
        (scores(np.full((5, 4), 16.0)), False, "no counts with four columns"),
        (scores(np.full((5, 3), 16)), False, "no counts with four columns"),
        (scores(losses=np.full(5, 1.7e308)), False, "not all numbers between 0 and 1e+06"),
        (scores(losses=np.full(5, np.nan)), False, "not all numbers between 0 and 1e+06"),
        (scores(losses=np.full(5, -1.0)), False, "not all numbers between 0 and 1e+06"),
        (scores(losses=np.zeros(4)), False, "one of losses for each image"),
        (scores(hd95=np.full(5, -5.0)), True, "not all numbers between 0 and 1"),
        (scores(hd95=np.full(5, 1.5)), True, "not all numbers between 0 and 1"),
        (scores(), True, "one of hd95 for each image"),
    ],
)
def test_scores_that_cannot_be_are_refused(sent: Reply, distances: bool, why: str) -> None:
    with pytest.raises(BadReply, match=re.escape(why)):
        read_scores(sent, SIDE, distances)


def test_counts_are_summed_as_wide_numbers_whatever_they_came_as() -> None:
    read_back = read_scores(scores(np.full((5, 4), SIDE**2 // 4, np.uint8)), SIDE)
    assert read_back.keys() == {"counts", "losses"}
    assert read_back["counts"].dtype == np.int64 and read_back["losses"].dtype == np.float64


def packed(content: bytes) -> ArrayRecord:
    return ArrayRecord({"packed": Array(dtype="uint8", shape=(len(content),), stype="packed", data=content)})


def test_no_flipped_byte_of_a_real_reply_raises_anything_but_a_refusal() -> None:
    draw, whole, refusals = random.Random(0), pack(difference(WEIGHTS, WEIGHTS)), 0
    good = record_of(reply())
    for _ in range(3000):
        flipped = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            flipped[draw.randrange(len(flipped))] = draw.randrange(256)
        sent = RecordDict({"metrics": good.metric_records["metrics"], "optimizer": good.array_records["optimizer"]})
        sent["model"] = packed(bytes(flipped))
        try:
            update = read(Reply("oslo", RecordContent(sent)))
        except BadReply:
            refusals += 1
        else:
            after = plus(WEIGHTS, update.changes["model"])
            assert all(np.isfinite(array).all() for array in after.values())
            change = update.changes["model"]["norm/moving_variance"]
            assert (WEIGHTS["norm/moving_variance"] + change >= 0).all()
    assert 500 < refusals < 3000


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.lists(st.integers(0, 9), max_size=3)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["images", "train_loss", "steps", "process", "x"]), numbers),
    st.dictionaries(st.sampled_from(["model", "optimizer", "scores"]), st.binary(max_size=60)),
)
def test_no_reply_raises_anything_but_a_refusal(said: dict[str, Any], arrays: dict[str, bytes]) -> None:
    content = RecordDict({"metrics": MetricRecord(said), **{k: packed(v) for k, v in arrays.items()}})
    sent = Reply("oslo", RecordContent(content))
    for way in (lambda: read(sent), lambda: read_scores(sent, SIDE), lambda: read_scores(sent, SIDE, distances=True)):
        with pytest.raises(BadReply):
            way()
    assert _process(sent) is None or type(_process(sent)) is int


def test_a_reply_of_a_training_without_averaged_moments_needs_none() -> None:
    plain = {"model": WEIGHTS}
    content = record_of(reply())
    del content["optimizer"]
    update = read_update(Reply("oslo", RecordContent(content)), plain, plain, CONFIG, 1)
    assert update.changes.keys() == {"model"}


def test_moments_that_no_gradients_make_are_refused() -> None:
    said = refused(reply(moments={"m/conv/kernel": np.full((3, 4), 10, np.float32)}))
    assert said == "its first moments of conv/kernel cannot result from gradients and the moments that it was sent"


@pytest.mark.parametrize("name", ["encoder_norm/moving_mean", "encoder_norm/moving_variance"])
def test_frozen_statistics_that_have_moved_are_refused_and_others_may(name: str) -> None:
    statistics = {name: np.ones(4, np.float32), "decoder_norm/moving_mean": np.zeros(4, np.float32)}
    sent = {"model": statistics}

    def replied(**moved: Any) -> Reply:
        record = {"model": to_record(minus(statistics | moved, statistics))}
        about = MetricRecord({"images": 10, "train_loss": 0.5, "steps": STEPS})
        return Reply("oslo", RecordContent(RecordDict({**record, "metrics": about})))

    honest = replied(**{"decoder_norm/moving_mean": np.full(4, 0.5, np.float32)})
    nudged = replied(**{name: np.nextafter(statistics[name], np.float32(2))})
    encoder = {"model.encoder": "efficientnet-lite0", "training.batch_size": 4, "training.local_epochs": 2}
    frozen, free = (load(overrides=encoder | {"model.frozen_statistics": known}) for known in (True, False))
    assert read_update(honest, sent, sent, frozen, 1).images == 10
    with pytest.raises(BadReply, match=f"^array {name} has changed, and model.frozen_statistics keeps it as it is$"):
        read_update(nudged, sent, sent, frozen, 1)
    assert read_update(nudged, sent, sent, free, 1).images == 10
    assert read_update(nudged, sent, sent, CONFIG, 1).images == 10  # a plain encoder ignores the setting
