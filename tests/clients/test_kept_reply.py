"""A finished training is never lost: the site answers a repeated request with the same bits, without training again."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict

from clients.kept_reply import KeptReply, drop_delivered
from fedpolyp.simulation.records import to_content, to_record
from fedpolyp.sites import audit
from tests.real_sites import RUN, make_sites, scoring, send, tiny, training

WEIGHTS = {"m/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "seen": np.array(3)}


@pytest.fixture
def oslo(tmp_path: Path) -> Path:
    return make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"


def bits(reply: Message) -> Any:
    """All that a reply says, to the bit."""
    arrays = {
        name: [(key, a.dtype, a.shape, a.data) for key, a in r.items()]
        for name, r in reply.content.array_records.items()
    }
    return arrays, dict(reply.content.metric_records["metrics"])


def kept(site: Path) -> list[str]:
    return sorted(file.name[:12] for file in (site / "private" / "state" / RUN).glob("reply-*"))


def events(site: Path) -> list[str]:
    return [entry.content["event"] for entry in audit.read(site / "private" / "audit.jsonl")]


@pytest.mark.parametrize("moments", ["average", "keep"])
def test_a_repeated_request_is_answered_with_the_same_bits_without_training(
    oslo: Path, moments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = training(round=3, config=tiny(training__optimizer_state=moments))
    first = send(oslo, asked)
    monkeypatch.setattr("fedpolyp.hospital.work.train", lambda *_: pytest.fail("it trained again"))
    again = send(oslo, asked)  # in another process, it would find the same file
    assert bits(again) == bits(first) and (len(again.content.array_records) == 2) == (moments == "average")
    assert events(oslo) == ["asked", "sent", "asked", "found", "sent"]
    logged = [entry.content for entry in audit.read(oslo / "private" / "audit.jsonl")]
    assert logged[1]["sha256"] == logged[4]["sha256"]
    assert logged[3]["run"] == RUN and logged[3]["round"] == 3


def test_another_request_is_carried_out_and_a_later_round_removes_what_was_delivered(oslo: Path) -> None:
    first = send(oslo, training(round=3))
    assert kept(oslo) == ["reply-000003"]
    other = send(oslo, training(round=3, learning_rate=0.02))
    assert bits(other) != bits(first) and kept(oslo) == ["reply-000003"]  # the newest alone
    send(oslo, scoring(round=3))
    assert kept(oslo) == ["reply-000003"]  # the round may still be repeated, from its checkpoint
    send(oslo, scoring(round=4))
    assert kept(oslo) == []
    assert events(oslo) == ["asked", "sent"] * 4


def content(round: int = 1, **weights: np.ndarray) -> RecordDict:
    return to_content(training(round=round), {"model": to_record(WEIGHTS | weights)})


def reply_of(*records: str) -> RecordDict:
    about = MetricRecord({"images": 10, "train_loss": 0.1 + 0.2, "steps": 3, "process": 7})
    arrays = {name: to_record(WEIGHTS) for name in records}
    return RecordDict({**arrays, "metrics": about})


def test_what_is_kept_is_read_to_the_bit(tmp_path: Path) -> None:
    file = KeptReply.of(tmp_path, training(), content())
    assert file.read() is None
    file.write(reply_of("model", "optimizer"))
    assert file.read() == reply_of("model", "optimizer")
    file.write(RecordDict({"model": to_record({}), "metrics": MetricRecord({"steps": 0})}))
    assert file.read() == RecordDict({"model": to_record({}), "metrics": MetricRecord({"steps": 0})})


def test_a_request_is_the_same_only_with_the_same_fields_and_weights(tmp_path: Path) -> None:
    record = to_record(WEIGHTS)
    same = KeptReply.of(tmp_path, training(), content())
    assert KeptReply.of(tmp_path, training(), content()) == same
    others = [
        KeptReply.of(tmp_path, training(round=2), content()),
        KeptReply.of(tmp_path, training("bergen"), content()),
        KeptReply.of(tmp_path, training(learning_rate=0.02), content()),
        KeptReply.of(tmp_path, training(run="f" * 32), content()),
        KeptReply.of(tmp_path, training(config=tiny(seed=1)), content()),
        KeptReply.of(tmp_path, training(), content(seen=np.array(4))),
        KeptReply.of(tmp_path, training(), to_content(training(), dict.fromkeys(("model", "optimizer"), record))),
    ]
    assert len({same, *others}) == 8


@pytest.mark.parametrize("damage", [lambda whole: whole[:-30], lambda whole: b"", lambda whole: whole[:200] + b"x" * 9])
def test_a_damaged_file_is_none(tmp_path: Path, damage: Any) -> None:
    file = KeptReply.of(tmp_path, training(), content())
    file.write(reply_of("model"))
    file.path.write_bytes(damage(file.path.read_bytes()))
    assert file.read() is None


def test_a_kept_reply_of_which_a_bit_has_changed_is_not_sent(tmp_path: Path) -> None:
    file = KeptReply.of(tmp_path, training(), content())
    file.write(reply_of("model", "optimizer"))
    whole = file.path.read_bytes()
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        file.path.write_bytes(changed)
        assert file.read() is None, position
    file.path.write_bytes(whole)
    assert file.read() == reply_of("model", "optimizer")


def test_a_request_whose_kept_reply_is_damaged_is_carried_out_again(oslo: Path) -> None:
    first = send(oslo, training(round=3))
    (file,) = (oslo / "private" / "state" / RUN).glob("reply-*")
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    (images, metrics), (again, about) = bits(first), bits(send(oslo, training(round=3)))
    assert again == images and about["train_loss"] == metrics["train_loss"]
    assert events(oslo) == ["asked", "sent"] * 2, "it was not trained again"


def test_a_full_disk_loses_neither_the_reply_that_is_sent_nor_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, file = KeptReply.of(tmp_path, training(), content()), KeptReply.of(tmp_path, training(round=2), content(2))
    before.write(reply_of("model"))

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    file.write(reply_of("model"))
    assert file.read() is None and before.read() == reply_of("model") and len(list(tmp_path.iterdir())) == 1


def test_what_other_runs_have_left_is_removed_after_a_week(tmp_path: Path) -> None:
    left, new = tmp_path / "a", tmp_path / "b"
    for state in (left, new):
        KeptReply.of(state, training(round=9), content()).write(reply_of("model"))
    (left / "000009.npz").write_bytes(b"")  # moments: not ours to remove
    drop_delivered(new, 9)
    assert [len(list(state.glob("reply-*"))) for state in (left, new)] == [1, 1]
    for file in [*left.iterdir(), *new.iterdir()]:
        os.utime(file, (time.time() - 8 * 86400,) * 2)
    drop_delivered(new, 9)
    assert [len(list(state.glob("reply-*"))) for state in (left, new)] == [0, 1] and (left / "000009.npz").exists()
