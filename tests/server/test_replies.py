"""Every reply is hostile: it is read as what was asked for, or refused in a short sentence; nothing else comes out."""

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.messages import to_record
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import load
from fedpolyp.exchange.packing import pack
from fedpolyp.model.arrays import Arrays
from server import replies
from server.exchange import Reply
from server.replies import BadReply, NotFinite, Update, read_scores, read_update

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
ASKED = Checkpoint(4, "", WEIGHTS, MOMENTS, 0, -1.0)
STEPS = 6  # 10 images in batches of 4, twice
CONFIG = load(overrides={"training.batch_size": 4, "training.local_epochs": 2})
SIDE = 8


def reply(weights: Arrays | None = None, moments: Arrays | None = None, **said: Any) -> Reply:
    """The reply to a training, with some of it changed."""
    moved = MOMENTS | {"iterations": np.array(8 + STEPS, np.int64)}
    about = {"images": 10, "train_loss": 0.5, "steps": STEPS, "process": 7} | said
    records = {"arrays": to_record(WEIGHTS | (weights or {})), "optimizer": to_record(moved | (moments or {}))}
    return Reply("oslo", RecordDict({**records, "metrics": MetricRecord(about)}))


def read(sent: Reply) -> Update:
    return read_update(sent, ASKED, CONFIG)


def refused(sent: Reply) -> str:
    with pytest.raises(BadReply) as error:
        read(sent)
    said = str(error.value)
    assert said.isprintable() and len(said) <= 300
    return said


def test_an_honest_update_is_read() -> None:
    update = read(reply())
    assert (update.images, update.loss, update.steps) == (10, 0.5, STEPS) and update.arrays.keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"norm/moving_variance": np.array([1, 1, 1, -100], np.float32)}, "norm/moving_variance goes down to -100"),
        ({"conv/kernel": np.full((3, 4), 1e30, np.float32)}, "conv/kernel has values beyond 1e+09"),
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
        ({"iterations": np.array(8 + STEPS + 1, np.int64)}, "counts 7 steps, and it took 6"),
        ({"iterations": np.array(2**62, np.int64)}, "iterations has values beyond"),
        ({"v/conv/kernel": np.full((3, 4), -1, np.float32)}, "v/conv/kernel goes down to -1"),
        ({"v/conv/kernel": np.full((3, 4), 1e20, np.float32)}, "v/conv/kernel has values beyond"),
    ],
)
def test_an_optimizers_state_that_cannot_be_is_refused(moments: Arrays, said: str) -> None:
    assert said in refused(reply(moments=moments))


def test_moments_that_no_gradients_make_are_refused() -> None:
    said = refused(reply(moments={"m/conv/kernel": np.full((3, 4), 10, np.float32)}))
    assert said == "its first moments of conv/kernel are none that gradients can make of those that it was sent"


@pytest.mark.parametrize("name", ["encoder_norm/moving_mean", "encoder_norm/moving_variance"])
def test_frozen_statistics_that_have_moved_are_refused_and_others_may(name: str) -> None:
    statistics = {name: np.ones(4, np.float32), "decoder_norm/moving_mean": np.zeros(4, np.float32)}
    asked = replace(ASKED, arrays=WEIGHTS | statistics)
    moved = statistics["decoder_norm/moving_mean"] + np.float32(0.5)
    honest = reply(statistics | {"decoder_norm/moving_mean": moved})
    nudged = reply(statistics | {name: np.nextafter(statistics[name], np.float32(2))})
    encoder = {"model.encoder": "efficientnet-lite0", "training.batch_size": 4, "training.local_epochs": 2}
    frozen, free = (load(overrides=encoder | {"model.frozen_statistics": known}) for known in (True, False))
    assert read_update(honest, asked, frozen).images == 10
    with pytest.raises(BadReply, match=f"^array {name} has changed, and model.frozen_statistics keeps it as it is$"):
        read_update(nudged, asked, frozen)
    assert read_update(nudged, asked, free).images == 10
    assert read_update(nudged, asked, CONFIG).images == 10  # a plain encoder ignores the setting


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
    assert refused(Reply("oslo", RecordDict())) == "it reports None images and a training loss of None"


@pytest.mark.parametrize("error", [SyntaxError, RecursionError, MemoryError, KeyError, OverflowError])
def test_whatever_goes_wrong_in_reading_a_reply_is_a_refusal_of_it(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(record: ArrayRecord) -> Arrays:
        raise error

    monkeypatch.setattr(replies, "from_record", fails)
    assert refused(reply()) == f"it cannot be read: {error.__name__}"


def scores(counts: Any = None, losses: Any = None, **others: Any) -> Reply:
    sent = {
        "counts": np.full((5, 4), SIDE**2 // 4) if counts is None else np.asarray(counts),
        "losses": np.full(5, 0.25) if losses is None else np.asarray(losses),
    }
    return Reply("oslo", RecordDict({"scores": to_record(sent | others)}))


@pytest.mark.parametrize(
    ("sent", "also", "why"),
    [
        (scores([[2**63 - 1, 2**63 - 1, 2, SIDE**2]]), "losses", "not those of the 64 pixels"),
        (scores(np.array([[2**64 - 1, 1, 0, SIDE**2]], np.uint64)), "losses", "not those of the 64 pixels"),
        (scores(np.full((5, 4), -16)), "losses", "not those of the 64 pixels"),
        (scores(np.full((5, 4), 16.0)), "losses", "no counts of four columns"),
        (scores(np.full((5, 3), 16)), "losses", "no counts of four columns"),
        (scores(losses=np.full(5, 1.7e308)), "losses", "not all numbers between 0 and 1e+06"),
        (scores(losses=np.full(5, np.nan)), "losses", "not all numbers between 0 and 1e+06"),
        (scores(losses=np.full(5, -1.0)), "losses", "not all numbers between 0 and 1e+06"),
        (scores(losses=np.zeros(4)), "losses", "one of losses for each image"),
        (scores(hd95=np.full(5, -5.0)), "hd95", "not all numbers between 0 and 1"),
        (scores(hd95=np.full(5, 1.5)), "hd95", "not all numbers between 0 and 1"),
        (scores(), "hd95", "one of hd95 for each image"),
    ],
)
def test_scores_that_cannot_be_are_refused(sent: Reply, also: str, why: str) -> None:
    with pytest.raises(BadReply, match=re.escape(why)):
        read_scores(sent, also, SIDE)


def test_counts_are_summed_as_wide_numbers_whatever_they_came_as() -> None:
    read_back = read_scores(scores(np.full((5, 4), SIDE**2 // 4, np.uint8)), "losses", SIDE)
    assert read_back["counts"].dtype == np.int64 and read_back["losses"].dtype == np.float64


def packed(content: bytes) -> ArrayRecord:
    return ArrayRecord({"packed": Array(dtype="uint8", shape=(len(content),), stype="packed", data=content)})


def test_no_flipped_byte_of_a_real_reply_raises_anything_but_a_refusal() -> None:
    draw, whole, refusals = random.Random(0), pack(WEIGHTS), 0
    good = reply().content
    assert good is not None
    for _ in range(3000):
        flipped = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            flipped[draw.randrange(len(flipped))] = draw.randrange(256)
        sent = RecordDict({"metrics": good.metric_records["metrics"], "optimizer": good.array_records["optimizer"]})
        sent["arrays"] = packed(bytes(flipped))
        try:
            update = read(Reply("oslo", sent))
        except BadReply:
            refusals += 1
        else:
            assert all(np.isfinite(array).all() for array in update.arrays.values())
            assert (update.arrays["norm/moving_variance"] >= 0).all()
    assert 500 < refusals < 3000


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.lists(st.integers(0, 9), max_size=3)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["images", "train_loss", "steps", "process", "x"]), numbers),
    st.dictionaries(st.sampled_from(["arrays", "optimizer", "scores"]), st.binary(max_size=60)),
)
def test_no_reply_raises_anything_but_a_refusal(said: dict[str, Any], arrays: dict[str, bytes]) -> None:
    sent = Reply("oslo", RecordDict({"metrics": MetricRecord(said), **{k: packed(v) for k, v in arrays.items()}}))
    for way in (lambda: read(sent), lambda: read_scores(sent, "losses", SIDE), lambda: read_scores(sent, "hd95", SIDE)):
        with pytest.raises(BadReply):
            way()
    assert sent.process is None or type(sent.process) is int


def test_a_reply_of_a_training_without_averaged_moments_needs_none() -> None:
    plain = replace(ASKED, strategy={})
    sent = reply()
    assert sent.content is not None
    del sent.content["optimizer"]
    assert read_update(sent, plain, CONFIG).moments == {}
