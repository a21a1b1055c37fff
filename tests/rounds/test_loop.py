import csv
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clients.messages import Order, from_record, order_of, to_record
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.clientapp import ClientApp
from server.heldout import HeldOut
from server.rounds import Federation
from server.sampling import sample

from fedpolyp import checkpoints, metrics, runs
from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.source import open_source
from fedpolyp.divergence import Diverged
from fedpolyp.errors import FedpolypError
from fedpolyp.model.arrays import equal
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher
from server.exchange import Interrupted, Seats
from tests.serial_grid import SerialGrid
from tests.tiny import Notes, StopAfter, federate, final, serial_grid, tiny_config, tiny_run

Whole = Callable[[Config], RunFolder]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The finished run of a config, made once for all tests, which only read it."""
    made: dict[str, RunFolder] = {}

    def run(config: Config) -> RunFolder:
        key = config.model_dump_json()
        if key not in made:
            made[key] = tiny_run(tmp_path_factory.mktemp("whole") / "run", config)
            federate(made[key], config)
        return made[key]

    return run


def test_same_seed_gives_same_bits_and_another_seed_others(tmp_path: Path, whole: Whole) -> None:
    config, other = tiny_config(), tiny_config(seed=1)
    again = tiny_run(tmp_path / "again", config)
    federate(again, config)
    one = final(whole(config), config).arrays
    assert equal(one, final(again, config).arrays)
    assert not equal(one, final(whole(other), other).arrays)


@pytest.mark.parametrize("optimizer_state", ["reset", "keep", "average"])
def test_resumed_run_ends_in_the_bits_of_one_never_interrupted(
    tmp_path: Path, whole: Whole, optimizer_state: str
) -> None:
    config = tiny_config(training__optimizer_state=optimizer_state, federation__rounds=4)
    unbroken, broken = whole(config), tiny_run(tmp_path / "broken", config)
    for round in (0, 2):
        stop = threading.Event()
        with pytest.raises(Interrupted):
            federate(broken, config, watcher=StopAfter(round, stop), stop=stop)
        assert broken.rounds()[-1]["round"] == round
    federate(broken, config)
    one, two = final(unbroken, config), final(broken, config)
    assert equal(one.arrays, two.arrays) and equal(one.strategy, two.strategy)
    timeless = [[{**record, "seconds": 0} for record in run.rounds()] for run in (unbroken, broken)]
    assert timeless[0] == timeless[1]
    assert unbroken.images_file.read_text() == broken.images_file.read_text()


def test_the_three_optimizer_states_train_differently(whole: Whole) -> None:
    results = []
    for optimizer_state in ("reset", "keep", "average"):
        config = tiny_config(training__optimizer_state=optimizer_state, federation__rounds=4)
        results.append(final(whole(config), config).arrays)
    assert not equal(results[0], results[1]) and not equal(results[1], results[2]) and not equal(results[0], results[2])


def test_resume_falls_back_from_a_truncated_checkpoint_to_the_same_bits(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config(federation__rounds=4)
    broken = tiny_run(tmp_path / "broken", config)
    stop, notes = threading.Event(), Notes()
    with pytest.raises(Interrupted):
        federate(broken, config, watcher=StopAfter(3, stop), stop=stop)
    newest = checkpoints.checkpoint_path(broken.checkpoints, 3)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    federate(broken, config, watcher=notes)
    assert any(str(newest) in note for note in notes.notes)
    assert equal(final(whole(config), config).arrays, final(broken, config).arrays)


def test_the_new_model_is_the_mean_of_the_replies_weighted_by_training_images(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1, hospitals__scheme="lesion-size")
    replies = {}

    def keep(asked: Message, reply: Message) -> Message:
        if asked.metadata.message_type == "train":
            replies[order_of(asked.content).hospital] = reply.content
        return reply

    run = tiny_run(tmp_path / "run", config)
    federate(run, config, serial_grid(keep))
    weights = np.array([len(run.partition().hospitals[name].train) for name in sorted(replies)], float)
    result = final(run, config).arrays
    for name, array in result.items():
        sent = np.stack([from_record(replies[h].array_records["arrays"])[name] for h in sorted(replies)])
        mean = np.tensordot(weights / weights.sum(), sent.astype(np.float64), 1)
        np.testing.assert_allclose(array, mean, rtol=1e-6, atol=1e-7)


class ShuffledGrid(SerialGrid):
    """Hands replies over one at a time, the last asked first."""

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        return super().pull_messages(list(message_ids)[-1:])


def test_the_order_in_which_replies_arrive_does_not_change_bits(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config(federation__rounds=2)
    shuffled = tiny_run(tmp_path / "shuffled", config)
    federate(shuffled, config, ShuffledGrid(serial_grid().client_app, 3))
    assert equal(final(whole(config), config).arrays, final(shuffled, config).arrays)


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_the_number_of_seats_does_not_change_bits(tmp_path: Path, whole: Whole, nodes: int) -> None:
    config = tiny_config(federation__rounds=2)
    other = tiny_run(tmp_path / "other", config)
    federate(other, config, serial_grid(nodes=nodes))
    assert equal(final(whole(config), config).arrays, final(other, config).arrays)


def spoiled(round: int, hospital: str, change):  # type: ignore[no-untyped-def]
    """A reply to the training order of one hospital and round, changed."""

    def spoil(asked: Message, reply: Message) -> Message:
        order = order_of(asked.content)
        if (asked.metadata.message_type, order.round, order.hospital) == ("train", round, hospital):
            change(reply)
        return reply

    return spoil


def not_finite(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    arrays["logits/bias"] = np.array([np.nan], np.float32)
    reply.content["arrays"] = to_record(arrays)


def other_shape(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    arrays["logits/bias"] = np.zeros(2, np.float32)
    reply.content["arrays"] = to_record(arrays)


def missing_array(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    del arrays["logits/bias"]
    reply.content["arrays"] = to_record(arrays)


def no_arrays(reply: Message) -> None:
    reply.content["arrays"] = ArrayRecord()


def arrays_of_another_kind(reply: Message) -> None:
    del reply.content["arrays"]
    reply.content["arrays"] = ConfigRecord({"packed": b""})


def too_precise(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    reply.content["arrays"] = to_record(arrays | {"logits/bias": np.array([1e300])})  # infinite in float32


def nothing_packed(reply: Message) -> None:
    reply.content["arrays"] = ArrayRecord({"packed": Array(dtype="uint8", shape=(0,), stype="packed", data=b"")})


def images_as_a_list(reply: Message) -> None:
    metrics = reply.content.metric_records["metrics"]
    reply.content["metrics"] = MetricRecord(dict(metrics) | {"images": [4, 4]})


def no_images(reply: Message) -> None:
    reply.content.metric_records["metrics"]["images"] = 0


def nan_loss(reply: Message) -> None:
    reply.content.metric_records["metrics"]["train_loss"] = float("nan")


def negative_variance(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    name = next(known for known in arrays if known.endswith("/moving_variance"))
    reply.content["arrays"] = to_record(arrays | {name: np.full_like(arrays[name], -100)})


def far_away(reply: Message) -> None:
    arrays = from_record(reply.content.array_records["arrays"])
    reply.content["arrays"] = to_record(arrays | {"logits/kernel": np.full_like(arrays["logits/kernel"], 1e5)})


def a_billion_images(reply: Message) -> None:
    metrics = reply.content.metric_records["metrics"]
    steps = 10**9 // 4 * 2
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
def test_a_bad_reply_is_refused_by_name_and_the_round_goes_on(tmp_path: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    config = tiny_config(federation__rounds=2)
    run, notes = tiny_run(tmp_path / "run", config), Notes()
    federate(run, config, serial_grid(spoiled(1, "hospital-2", change)), notes)
    first, second = run.rounds()[1:]
    assert [refusal["hospital"] for refusal in first["refused"]] == ["hospital-2"]
    assert reason in first["refused"][0]["reason"]
    assert any("hospital-2" in note and reason in note for note in notes.notes)
    assert "images" not in first["hospitals"]["hospital-2"] and "images" in second["hospitals"]["hospital-2"]
    assert second["refused"] == [] and np.isfinite(second["dice"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": np.full((5, 4), np.nan)}, "no counts of four columns"),
        ({"counts": np.array([[2000, -976, 0, 0]] * 5)}, "not those of the 1024 pixels"),
        ({"counts": np.array([[1024, 1, 0, 0]] * 5)}, "not those of the 1024 pixels"),
        ({"losses": np.full(5, np.inf)}, "its losses are not all numbers between 0 and 1e+06"),
        ({"losses": np.zeros(5, np.int64)}, "one of losses for each image"),
        ({"losses": np.zeros(4)}, "one of losses for each image"),
    ],
)
def test_scores_that_are_none_are_refused_by_name_and_the_round_goes_on(tmp_path: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        order = order_of(asked.content)
        if (asked.metadata.message_type, order.score_set, order.hospital) == ("evaluate", "val", "hospital-2"):
            good = {"counts": np.array([[1024, 0, 0, 0]] * 5), "losses": np.zeros(5)}
            reply.content["scores"] = to_record(good | change)
        return reply

    federate(run, config, serial_grid(spoil))
    for record in run.rounds():
        assert [refusal["hospital"] for refusal in record["refused"]] == ["hospital-2"]
        assert reason in record["refused"][0]["reason"]
        assert "val_dice" not in record["hospitals"].get("hospital-2", {})


def test_a_round_that_lacks_a_hospitals_validation_is_not_the_best_and_bytes_down_count_tests(tmp_path: Path) -> None:
    config, notes = tiny_config(federation__rounds=2), Notes()
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        order, content = order_of(asked.content), reply.content
        if (asked.metadata.message_type, order.score_set) == ("evaluate", "val"):
            images = len(from_record(content.array_records["scores"])["counts"])
            # The weak hospital's share of true pixels; the others' images are all found in round 2, which lacks it.
            good = 1024 if (order.hospital != "hospital-2" and order.round == 2) else 300
            counts = np.tile([good, 1024 - good, 0, 0], (images, 1))
            content["scores"] = to_record({"counts": counts, "losses": np.zeros(images)})
            if (order.hospital, order.round) == ("hospital-2", 2):
                raise RuntimeError("no power")
        return reply

    federate(run, config, serial_grid(spoil), notes)
    first, second = run.rounds()[1:]
    assert first["val_dice"] is not None and second["val_dice"] is None
    assert second["hospitals"]["hospital-1"]["val_dice"] == 1.0
    assert "round 2 cannot be the best on validation: the others were validated by hospital-2, too" in notes.notes
    assert final(run, config).best_round == 0
    model = final(run, config)
    weights, moments = (sum(a.nbytes for a in arrays.values()) for arrays in (model.arrays, model.strategy))
    training, scoring = 3 * (weights + moments), 3 * weights
    assert [record["bytes_down"] for record in run.rounds()] == [scoring, training + scoring, training + 2 * scoring]


def test_a_training_that_diverged_names_the_likely_cause_and_saves_nothing(tmp_path: Path) -> None:
    config = tiny_config(model__normalization="none")
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        if asked.metadata.message_type == "train":
            nan_loss(reply)
        return reply

    with pytest.raises(Diverged, match=r"diverged at hospital-1, .* learning rate .*0\.01.* without normalization"):
        federate(run, config, serial_grid(spoil))
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0]


def test_a_model_whose_loss_is_not_finite_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    scores = iter([{"dice": 0.5, "iou": 0.5, "loss": 1.0}, {"dice": 0.5, "iou": 0.5, "loss": float("nan")}])
    monkeypatch.setattr(HeldOut, "score", lambda self, arrays: next(scores))
    with pytest.raises(Diverged, match="^round 1: the held-out loss of the model is no finite number; "):
        federate(run, config)
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0]
    assert "NaN" not in run.rounds_file.read_text()


@pytest.mark.parametrize(
    ("fraction", "asked", "needed"),
    [(0.28, 25, 7), (0.29, 25, 8), (0.07, 100, 7), (0.5, 3, 2), (1.0, 5, 5), (0.01, 5, 1)],
)
def test_the_replies_a_round_needs_are_counted_exactly(
    tmp_path: Path, fraction: float, asked: int, needed: int
) -> None:
    config = tiny_config(federation__min_replies=fraction)
    federation = Federation(config, RunFolder(tmp_path), None, Partition((), {}), Watcher(), threading.Event())
    assert federation.needed(asked) == needed


def test_large_hospitals_are_asked_first_and_replies_count_in_the_order_of_names(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    even = tiny_run(tmp_path / "even", config).partition()
    given = {"hospital-1": 2, "hospital-2": 9, "hospital-3": 5}
    hospitals = {name: replace(own, train=own.train[: given[name]]) for name, own in even.hospitals.items()}
    partition = replace(even, hospitals=hospitals)
    run = runs.create(tmp_path / "run", config, partition)
    grid = serial_grid()
    federate(run, config, grid)
    trainings = [message for message in grid.asked if message.metadata.message_type == "train"]
    assert [order_of(message.content).hospital for message in trainings] == ["hospital-2", "hospital-3", "hospital-1"]
    # The engine hands out what was sent to the node that was registered first, first: here the one numbered highest.
    assert [message.metadata.dst_node_id for message in trainings] == [3, 2, 1]
    assert list(run.rounds()[1]["hospitals"]) == ["hospital-1", "hospital-2", "hospital-3"]


def test_many_hospitals_are_all_asked_whatever_their_sizes() -> None:
    names = [f"hospital-{number:03d}" for number in range(200)]
    sizes = {name: int(size) for name, size in zip(names, np.random.default_rng(0).permutation(200), strict=True)}
    grid = SerialGrid(ClientApp(), 3)
    seats = Seats.wait(grid, 3, threading.Event(), 1.0, 5.0, sizes=sizes)
    replies = list(seats.send("train", [Order(name, 1, "{}") for name in names], to_record({})))
    assert [reply.hospital for reply in replies] == names
    asked = [sizes[order_of(message.content).hospital] for message in grid.asked]
    assert sorted(asked) == list(range(200)) and asked[:64] == sorted(asked[:64], reverse=True)


def test_too_few_replies_stop_the_run_naming_the_hospitals_and_it_can_be_resumed(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config()
    run = tiny_run(tmp_path / "run", config)

    def spoil(asked: Message, reply: Message) -> Message:
        order = order_of(asked.content)
        if order.round == 2 and order.hospital != "hospital-3" and asked.metadata.message_type == "train":
            raise RuntimeError("no power")
        return reply

    with pytest.raises(FedpolypError, match=r"round 2 stopped: 1 of 3 .* 2 are needed .*hospital-1: .*no power"):
        federate(run, config, serial_grid(spoil))
    assert [record["round"] for record in run.rounds()] == [0, 1]
    federate(run, config)
    assert equal(final(run, config).arrays, final(whole(config), config).arrays)


class EmptyGrid(SerialGrid):
    """Nodes register late, and one hospital never answers."""

    late_since = 0.0

    def get_node_ids(self):  # type: ignore[no-untyped-def]
        self.late_since = self.late_since or time.monotonic()
        return range(1, 2 if time.monotonic() - self.late_since < 0.3 else 4)

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        silent = {
            m.metadata.message_id
            for m in self.asked
            if order_of(m.content).hospital == "hospital-1" and m.metadata.message_type == "train"
        }
        return super().pull_messages([known for known in message_ids if known not in silent])


def test_no_order_is_sent_before_the_seats_have_registered_and_silence_ends_at_the_timeout(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1, federation__round_timeout=2.0)
    run = tiny_run(tmp_path / "run", config)
    grid = EmptyGrid(serial_grid().client_app, 3)
    store = open_source(config.data, config.seed)
    Federation(config, run, store, run.partition(), Watcher(), threading.Event()).run_on(grid, seats=3)
    assert {message.metadata.dst_node_id for message in grid.asked[:3]} == {1, 2, 3}
    assert run.rounds()[1]["refused"] == [{"hospital": "hospital-1", "reason": "no reply within 2 s"}]


def test_a_fraction_of_the_hospitals_is_drawn_anew_each_round() -> None:
    config = tiny_config(federation__fraction=0.4)
    names = [f"hospital-{number}" for number in range(10)]
    drawn = [sample(names, config, number) for number in range(1, 30)]
    assert all(len(set(hospitals)) == 4 and hospitals == sorted(hospitals) for hospitals in drawn)
    assert {name for hospitals in drawn for name in hospitals} == set(names)
    assert drawn == [sample(names, config, number) for number in range(1, 30)]


def test_rounds_jsonl_holds_every_field_of_the_contract(whole: Whole) -> None:
    config = tiny_config(training__optimizer_state="keep", federation__rounds=4)
    run = whole(config)
    records = run.rounds()
    assert [record["round"] for record in records] == [0, 1, 2, 3, 4]
    fields = "round dice iou val_dice loss seconds steps bytes_up bytes_down hospitals refused".split()
    assert all(list(record) == fields for record in records)
    batches = sum(-(-len(hospital.train) // 4) for hospital in run.partition().hospitals.values())
    assert [record["steps"] for record in records] == [0, *[2 * batches] * 4]
    weights = sum(array.nbytes for array in final(run, config).arrays.values())
    assert all(record["bytes_up"] == 3 * weights for record in records[1:])
    assert all(
        set(h) == {"images", "train_loss", "val_dice", "val_images"}
        for r in records[1:-1]
        for h in r["hospitals"].values()
    )
    assert all("test_dice" in hospital for hospital in records[-1]["hospitals"].values())


def test_headline_dice_follows_from_images_csv_alone(whole: Whole) -> None:
    run = whole(tiny_config())
    with run.images_file.open() as stream:
        rows = list(csv.DictReader(stream))
    last = [row for row in rows if row["model"] == "last" and row["set"] == "heldout"]
    counts = np.array([[int(row[name]) for name in ("tp", "fp", "fn", "tn")] for row in last])
    assert [row["id"] for row in last] == list(run.partition().heldout)
    assert metrics.dice(counts).mean() > 0
    assert metrics.dice(counts).mean() == pytest.approx(run.rounds()[-1]["dice"], abs=1e-12)
    tests = {row["set"] for row in rows} - {"heldout"}
    assert tests == {"test:hospital-1", "test:hospital-2", "test:hospital-3"}
    best = {int(row["round"]) for row in rows if row["model"] == "best"}
    vals = [record["val_dice"] for record in run.rounds()]
    assert best == {int(np.argmax(vals))}


def test_a_hospital_that_fails_when_it_is_scored_costs_its_scores_and_nothing_else(
    tmp_path: Path, whole: Whole
) -> None:
    def spoil(asked: Message, reply: Message) -> Message:
        order = order_of(asked.content)
        if order.hospital == "hospital-1" and asked.metadata.message_type == "evaluate" and order.round == 2:
            raise RuntimeError("no light")
        return reply

    config = tiny_config(federation__rounds=2)
    run, notes = tiny_run(tmp_path / "run", config), Notes()
    federate(run, config, serial_grid(spoil), notes)
    last = run.rounds()[-1]
    assert [refusal["hospital"] for refusal in last["refused"]] == ["hospital-1"]  # once: both failed alike
    assert "val_dice" not in last["hospitals"]["hospital-1"] and "val_dice" in last["hospitals"]["hospital-2"]
    assert any("hospital-1 are missing from images.csv" in note for note in notes.notes)
    assert equal(final(run, config).arrays, final(whole(config), config).arrays)


def test_private_state_older_than_every_checkpoint_is_dropped(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=6, training__optimizer_state="keep")
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    kept = checkpoints.rounds_in(run.checkpoints)
    for hospital in sorted(run.partition().hospitals):
        rounds = sorted(int(path.stem) for path in (run.state / hospital).glob("*.npz"))
        assert rounds[-1] == 6 and len(rounds) <= 6 - kept[0] + 2


def test_without_validation_images_there_is_no_validation_dice_and_the_last_model_is_the_best(tmp_path: Path) -> None:
    config = tiny_config(hospitals__val=0.0, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    assert [record["val_dice"] for record in run.rounds()] == [None, None]
    assert final(run, config).best_round == 1


def test_only_so_many_orders_are_under_way_and_the_bits_do_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(federation__rounds=2, hospitals__count=7)
    one, two = tiny_run(tmp_path / "one", config), tiny_run(tmp_path / "two", config)
    federate(one, config)

    class Counting(SerialGrid):
        most = 0

        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            self.most = max(self.most, len(list(message_ids)))
            return super().pull_messages(list(message_ids)[-1:])

    monkeypatch.setattr("server.exchange._UNDER_WAY", 3)
    plain = serial_grid()
    counting = Counting(plain.client_app, 3)
    federate(two, config, counting)
    assert counting.most == 3
    assert equal(final(one, config).arrays, final(two, config).arrays)


def test_what_a_round_asks_does_not_grow_with_the_number_of_hospitals(tmp_path: Path) -> None:
    asked = []
    for count, fraction in ((4, 1.0), (8, 0.5)):
        config = tiny_config(hospitals__count=count, federation__fraction=fraction, federation__rounds=2)
        grid = serial_grid(nodes=4)
        run = tiny_run(tmp_path / str(count), config)
        federate(run, config, grid)
        orders = [order_of(message.content) for message in grid.asked]
        asked.append([sum(order.round == number and order.score_set == "val" for order in orders) for number in (0, 1)])
        panels = [{name for name, own in record["hospitals"].items() if "val_dice" in own} for record in run.rounds()]
        assert panels[0] == panels[1] == panels[2] and len(panels[0]) == 4
        assert sum("test_dice" in own for own in run.rounds()[-1]["hospitals"].values()) == count
    assert asked[0] == asked[1] == [4, 8]
