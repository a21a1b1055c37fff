"""The rounds of a run: same seed, same bits, whatever is interrupted; bad replies are refused, and too few stop it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord

from fedpolyp import checkpoints, runs
from fedpolyp.algorithms.base import Trained
from fedpolyp.algorithms.robust import Median
from fedpolyp.data.partition.partition import Partition
from fedpolyp.divergence import Diverged
from fedpolyp.errors import FedpolypError, FinalError, Interrupted
from fedpolyp.exchange.replies import Reply
from fedpolyp.exchange.requests import Request
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.sampling import sample
from fedpolyp.runs import RunFolder
from fedpolyp.simulation.records import from_record, to_record
from fedpolyp.training import Trainer, shared_trainer
from fedpolyp.watcher import Watcher
from tests.same_bits import equal
from tests.tiny import (
    Notes,
    StopAfter,
    Whole,
    carry_here,
    carry_listening,
    federate,
    final,
    request_of,
    serial_grid,
    tiny_config,
    tiny_run,
    weights,
)


def test_same_seed_gives_same_bits_and_another_seed_others(tmp_path: Path, whole: Whole) -> None:
    config, other = tiny_config(), tiny_config(seed=1, federation__rounds=3)
    again = tiny_run(tmp_path / "again", config)
    carry_here(again, config)
    one = weights(whole(config), config)
    assert equal(one, weights(again, config))
    assert not equal(one, weights(whole(other), other))


@pytest.mark.parametrize(
    ("algorithm", "optimizer_state"),
    [("fedavg", "reset"), ("fedavg", "keep"), ("fedavg", "average"), ("cyclic", "keep"), ("scaffold", "reset")],
)
def test_resumed_run_ends_in_the_bits_of_one_never_interrupted(
    tmp_path: Path, whole: Whole, algorithm: str, optimizer_state: str
) -> None:
    config = tiny_config(algorithm__name=algorithm, training__optimizer_state=optimizer_state)
    unbroken, broken = whole(config), tiny_run(tmp_path / "broken", config)
    for round in (0, 2):
        stop = threading.Event()
        with pytest.raises(Interrupted):
            carry_here(broken, config, watcher=StopAfter(round, stop), stop=stop)
        assert broken.rounds()[-1]["round"] == round
    carry_here(broken, config)
    one, two = final(unbroken, config), final(broken, config)
    assert one.best == two.best and one.state.keys() == two.state.keys()
    assert all(equal(one.state[group], two.state[group]) for group in one.state)
    timeless = [[{**record, "seconds": 0} for record in run.rounds()] for run in (unbroken, broken)]
    assert timeless[0] == timeless[1]
    assert unbroken.images_file.read_text() == broken.images_file.read_text()


def test_the_three_optimizer_states_train_differently(whole: Whole) -> None:
    results = []
    for optimizer_state in ("reset", "keep", "average"):
        config = tiny_config(training__optimizer_state=optimizer_state)
        results.append(weights(whole(config), config))
    assert not equal(results[0], results[1]) and not equal(results[1], results[2]) and not equal(results[0], results[2])


def test_resume_falls_back_from_a_truncated_checkpoint_to_the_same_bits(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config()
    broken = tiny_run(tmp_path / "broken", config)
    stop, notes = threading.Event(), Notes()
    with pytest.raises(Interrupted):
        carry_here(broken, config, watcher=StopAfter(2, stop), stop=stop)
    newest = checkpoints.checkpoint_path(broken.checkpoints, 2)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    carry_here(broken, config, watcher=notes)
    assert any(str(newest) in note for note in notes.notes)
    assert equal(weights(whole(config), config), weights(broken, config))


@pytest.mark.parametrize("optimizer_state", ["keep", "average"])
def test_this_process_alone_and_flowers_messages_give_the_same_bits_and_records(
    tmp_path: Path, whole: Whole, optimizer_state: str
) -> None:
    config = tiny_config(training__optimizer_state=optimizer_state)
    here, there = whole(config), tiny_run(tmp_path / "there", config)
    federate(there, config)
    assert equal(weights(here, config), weights(there, config))
    timeless = [[{**record, "seconds": 0} for record in run.rounds()] for run in (here, there)]
    assert timeless[0] == timeless[1]
    assert here.images_file.read_bytes() == there.images_file.read_bytes()


def test_the_new_model_is_the_mean_of_the_replies_weighted_by_training_images(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    even = tiny_run(tmp_path / "even", config).partition()
    given = {"hospital-1": 2, "hospital-2": 9, "hospital-3": 5}
    hospitals = {name: replace(own, train=own.train[: given[name]]) for name, own in even.hospitals.items()}
    changes: dict[str, Arrays] = {}

    def keep(request: Request, reply: Reply) -> Reply:
        if request.kind == "train" and reply.content is not None:
            changes[reply.hospital] = reply.content.arrays("model")
        return reply

    run = runs.create(tmp_path / "run", config, replace(even, hospitals=hospitals))
    carry_listening(run, config, keep)
    weigh = np.array([given[name] for name in sorted(changes)], float)
    result = weights(run, config)
    for name, before in shared_trainer(config).initial.items():
        sent = np.stack([before + changes[hospital][name].astype(np.float64) for hospital in sorted(changes)])
        mean = np.tensordot(weigh / weigh.sum(), sent, 1)
        np.testing.assert_allclose(result[name], mean, rtol=1e-6, atol=1e-7)


def spoiled(round: int, hospital: str, change: Callable[[Message], None]) -> Callable[[Message, Message], Message]:
    """A reply to the training request of one hospital and round, changed."""

    def spoil(asked: Message, reply: Message) -> Message:
        request = request_of(asked)
        if (request.kind, request.round, request.hospital) == ("train", round, hospital):
            change(reply)
        return reply

    return spoil


def not_finite(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    arrays["logits/bias"] = np.array([np.nan], np.float32)
    reply.content["model"] = to_record(arrays)


def other_shape(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    arrays["logits/bias"] = np.zeros(2, np.float32)
    reply.content["model"] = to_record(arrays)


def missing_array(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    del arrays["logits/bias"]
    reply.content["model"] = to_record(arrays)


def more_arrays(reply: Message) -> None:
    reply.content["patients"] = reply.content.array_records["model"]


def no_arrays(reply: Message) -> None:
    reply.content["model"] = ArrayRecord()


def arrays_of_another_kind(reply: Message) -> None:
    del reply.content["model"]
    reply.content["model"] = ConfigRecord({"packed": b""})


def too_precise(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    reply.content["model"] = to_record(arrays | {"logits/bias": np.array([1e300])})  # infinite in float32


def nothing_packed(reply: Message) -> None:
    reply.content["model"] = ArrayRecord({"packed": Array(dtype="uint8", shape=(0,), stype="packed", data=b"")})


def images_as_a_list(reply: Message) -> None:
    metrics = reply.content.metric_records["metrics"]
    reply.content["metrics"] = MetricRecord(dict(metrics) | {"images": [4, 4]})


def no_images(reply: Message) -> None:
    reply.content.metric_records["metrics"]["images"] = 0


def nan_loss(reply: Message) -> None:
    reply.content.metric_records["metrics"]["train_loss"] = float("nan")


def negative_variance(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    # All variances are 1 in round 0, and what is sent is the difference.
    name = next(known for known in arrays if known.endswith("/moving_variance"))
    reply.content["model"] = to_record(arrays | {name: np.full_like(arrays[name], -101)})


def far_away(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["model"])
    reply.content["model"] = to_record(arrays | {"logits/kernel": np.full_like(arrays["logits/kernel"], 1e5)})


def a_billion_images(reply: Message) -> None:
    metrics = reply.content.metric_records["metrics"]
    steps = 10**9 // 4
    reply.content["metrics"] = MetricRecord(dict(metrics) | {"images": 10**9, "steps": steps})
    moments = from_record(reply.content.array_records["optimizer"])  # which is of round 1
    reply.content["optimizer"] = to_record(moments | {"iterations": np.full_like(moments["iterations"], steps)})


def escape_sequences(reply: Message) -> None:
    raise RuntimeError("\x1b]0;owned\x07yyy")


def it_fails(reply: Message) -> None:
    raise RuntimeError("the scanner caught fire")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_finite, "logits/bias has values that are not finite"),
        (other_shape, "logits/bias has shape (2,), expected (1,)"),
        (missing_array, "1 missing ['logits/bias']"),
        (more_arrays, "it sends patients, which was not asked for"),
        (no_arrays, "a record of packed arrays holds 'packed' and its pieces alone"),
        (arrays_of_another_kind, "array names differ"),
        (too_precise, "logits/bias is float64, expected float32"),
        (nothing_packed, "packed arrays of 0 bytes"),
        (images_as_a_list, "[4, 4] images"),
        (no_images, "0 images"),
        (nan_loss, "training loss of nan"),
        (negative_variance, "goes down to -100, and cannot be negative"),
        (far_away, "its weights changed"),
        (a_billion_images, "it reports 1000000000 train images, and has "),
        (escape_sequences, r"\x1b]0;owned\x07yyy"),
        (it_fails, "the scanner caught fire"),
    ],
)
def test_a_bad_reply_is_refused_by_name_and_the_round_goes_on(
    tmp_path: Path, change: Callable[[Message], None], reason: str
) -> None:
    config = tiny_config(federation__rounds=2)
    run, notes = tiny_run(tmp_path / "run", config), Notes()
    federate(run, config, serial_grid(spoiled(1, "hospital-2", change)), notes)
    first, second = run.rounds()[1:]
    assert [refusal["hospital"] for refusal in first["refused"]] == ["hospital-2"]
    assert reason in first["refused"][0]["reason"]
    assert any("hospital-2" in note and reason in note for note in notes.notes)
    assert "images" not in first["hospitals"]["hospital-2"] and "images" in second["hospitals"]["hospital-2"]
    assert second["refused"] == [] and np.isfinite(second["dice"])


def test_a_training_that_diverged_names_the_likely_cause_and_saves_nothing(tmp_path: Path) -> None:
    config = tiny_config(model__normalization="none")
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        if asked.metadata.message_type == "train":
            nan_loss(reply)
        return reply

    with pytest.raises(Diverged, match=r"diverged at hospital-1, .* learning rate .*0\.005.* without normalization"):
        federate(run, config, serial_grid(spoil))
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0]


@pytest.mark.parametrize(
    ("fraction", "asked", "needed"),
    [(0.28, 25, 7), (0.29, 25, 8), (0.07, 100, 7), (0.5, 3, 2), (1.0, 5, 5), (0.01, 5, 1)],
)
def test_the_replies_a_round_needs_are_counted_exactly(
    tmp_path: Path, fraction: float, asked: int, needed: int
) -> None:
    config = tiny_config(federation__min_replies=fraction)
    experiment = Experiment(config, RunFolder(tmp_path), None, Partition((), {}), Watcher(), threading.Event())
    assert experiment.needed(asked) == needed


def test_too_few_replies_stop_the_run_naming_the_hospitals_and_it_can_be_resumed(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config()
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        request = request_of(asked)
        if request.round == 2 and request.hospital != "hospital-3" and request.kind == "train":
            raise RuntimeError("no power")
        return reply

    with pytest.raises(FedpolypError, match=r"round 2 stopped: 1 of 3 .* 2 are needed .*hospital-1: .*no power"):
        federate(run, config, serial_grid(spoil))
    assert [record["round"] for record in run.rounds()] == [0, 1]
    federate(run, config)
    assert equal(weights(run, config), weights(whole(config), config))


@pytest.mark.parametrize("algorithm", ["fedavg", "cyclic"])
def test_a_round_with_too_few_replies_is_tried_once_more_to_the_bits_of_one_without_failures(
    tmp_path: Path, whole: Whole, algorithm: str
) -> None:
    config = tiny_config(algorithm__name=algorithm, training__optimizer_state="keep", federation__min_replies=1.0)
    failures: list[Request] = []

    def spoil(request: Request, reply: Reply) -> Reply:
        if (request.kind, request.round, request.hospital) == ("train", 2, "hospital-1") and not failures:
            failures.append(request)
            return Reply(request.hospital, None, "no power")
        return reply

    run, untroubled, notes = tiny_run(tmp_path / "run", config), whole(config), Notes()
    asked = carry_listening(run, config, spoil, notes)
    assert equal(weights(run, config), weights(untroubled, config))
    again = [request for request in asked if (request.kind, request.round) == ("train", 2)]
    assert sorted(map(repr, again[:3])) == sorted(map(repr, again[3:])), "other requests"
    assert sum("it is tried once more" in note for note in notes.notes) == 1
    second = run.rounds()[2]
    assert second["refused"] == [{"hospital": "hospital-1", "reason": "no power"}]
    assert second["steps"] == untroubled.rounds()[2]["steps"]


def test_a_round_that_diverged_is_not_tried_again(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1, federation__min_replies=1.0)
    notes = Notes()
    spoil = spoiled(1, "hospital-2", nan_loss)
    grid = serial_grid(spoil)
    with pytest.raises(FedpolypError, match="round 1 (stopped|: the training has diverged at hospital-2)"):
        federate(tiny_run(tmp_path / "run", config), config, grid, notes)
    assert sum(request_of(message).kind == "train" for message in grid.asked) == 3
    assert not any("once more" in note for note in notes.notes)


def test_an_algorithm_that_can_make_nothing_of_the_updates_ends_the_run_in_its_words_and_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Median, values: object) -> None:
        raise ValueError("there is no middle")

    monkeypatch.setattr(Median, "middle", fail)
    config = tiny_config(algorithm__name="median")
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(FedpolypError, match="^round 1 stopped: there is no middle$"):
        carry_here(run, config)
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0]


def without_power(request: Request, reply: Reply) -> Reply:
    """The reply; hospital-2 cannot train."""
    fails = (request.kind, request.hospital) == ("train", "hospital-2")
    return Reply(request.hospital, None, "no power") if fails else reply


def test_a_round_needs_as_many_updates_as_its_algorithm(tmp_path: Path) -> None:
    config = tiny_config(algorithm__name="krum", hospitals__count=5, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(FedpolypError, match="^round 1 stopped: 4 of 5 hospitals sent usable replies, 5 are needed "):
        carry_listening(run, config, without_power)
    assert [record["round"] for record in run.rounds()] == [0]


def test_an_algorithm_with_updates_enough_goes_on_though_one_was_refused(tmp_path: Path) -> None:
    config = tiny_config(algorithm__name="krum", hospitals__count=6, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, without_power)
    assert [refusal["hospital"] for refusal in run.rounds()[1]["refused"]] == ["hospital-2"]
    assert sum("train_loss" in own for own in run.rounds()[1]["hospitals"].values()) == 5


@pytest.mark.parametrize(("algorithm", "name"), [("pooled", "pooled"), ("local", "hospital-3")])
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"loss": float("nan")}, "it reports a training loss of nan"),
        ({"loss": 2e6}, "it reports a training loss of 2e+06"),
        ({"arrays": np.inf}, "array logits/bias has values that are not finite numbers"),
        ({"arrays": 1e10}, "array logits/bias has values beyond 1e+09"),
    ],
)
def test_a_training_without_a_federation_that_diverges_ends_the_run_in_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, name: str, change: dict[str, Any], seen: str
) -> None:
    config = tiny_config(algorithm__name=algorithm)
    run, trained, notes = tiny_run(tmp_path / "run", config), Trainer.train, Notes()

    def diverge(*arguments: Any, **about: Any) -> Trained:
        done = trained(*arguments, **about)
        if (about["round"], about["hospital"]) != (2, name):
            return done
        if "loss" in change:
            return replace(done, **change)
        return replace(done, arrays=done.arrays | {"logits/bias": np.array([change["arrays"]], np.float32)})

    monkeypatch.setattr(Trainer, "train", diverge)
    with pytest.raises(Diverged) as error:
        carry_here(run, config, notes)
    assert str(error.value) == (
        f"round 2: the training of {name} has diverged: {seen}; the likely cause is a learning rate that is too high "
        "(it was 0.005). Resuming this run would compute the same again: start a new run with other settings"
    )
    assert isinstance(error.value, FinalError) and notes.notes == []
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0, 1]


@pytest.mark.parametrize("algorithm", ["pooled", "local"])
def test_without_a_federation_all_hospitals_train_in_every_round_and_nothing_travels(
    tmp_path: Path, whole: Whole, algorithm: str
) -> None:
    # What is set of a federation is of others in the same comparison.
    federation = {"federation__fraction": 0.4, "federation__drop_rate": 0.9}
    free, bound = tiny_config(algorithm__name=algorithm), tiny_config(algorithm__name=algorithm, **federation)
    one, two = whole(free), tiny_run(tmp_path / "two", bound)
    carry_here(two, bound)
    states = [final(run, config).state for run, config in ((one, free), (two, bound))]
    assert states[0].keys() == states[1].keys()
    assert all(equal(states[0][group], states[1][group]) for group in states[0])
    for record in two.rounds():
        assert record["bytes_up"] == record["bytes_down"] == 0 and record["refused"] == []
    trained = {name for name, own in two.rounds()[1]["hospitals"].items() if "train_loss" in own}
    assert trained == ({"pooled"} if algorithm == "pooled" else set(two.partition().hospitals))


def test_a_fraction_of_the_hospitals_is_drawn_anew_each_round() -> None:
    config = tiny_config(federation__fraction=0.4)
    names = [f"hospital-{number}" for number in range(10)]
    drawn = [sample(names, config, number) for number in range(1, 30)]
    assert all(len(set(hospitals)) == 4 and hospitals == sorted(hospitals) for hospitals in drawn)
    assert {name for hospitals in drawn for name in hospitals} == set(names)
    assert drawn == [sample(names, config, number) for number in range(1, 30)]
