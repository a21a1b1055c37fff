"""A federation by way of Flower's grid: seats, and the order of messages, cost no bits; a model is packed once."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedpolyp import runs
from fedpolyp.data.source import open_source
from fedpolyp.exchange.replies import Reply
from fedpolyp.exchange.requests import Evaluate, Request, Train
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.simulation.records import to_record
from fedpolyp.watcher import Watcher
from server import exchange
from server.exchange import Seats
from server.federation import run_on
from tests.same_bits import equal
from tests.serial_grid import SerialGrid
from tests.tiny import Whole, federate, final, request_of, serial_grid, tiny_config, tiny_run, weights


class ShuffledGrid(SerialGrid):
    """Hands replies over one at a time, the last asked first."""

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        return super().pull_messages(list(message_ids)[-1:])


def test_the_order_in_which_replies_arrive_does_not_change_bits(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config()
    one, two = whole(config), tiny_run(tmp_path / "two", config)
    plain = serial_grid()
    federate(two, config, ShuffledGrid(plain.client_app, 3))
    assert equal(weights(one, config), weights(two, config))


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_the_number_of_seats_does_not_change_bits(tmp_path: Path, whole: Whole, nodes: int) -> None:
    config = tiny_config()
    one, two = whole(config), tiny_run(tmp_path / "two", config)
    federate(two, config, serial_grid(nodes=nodes))
    assert equal(weights(one, config), weights(two, config))


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
    assert [request_of(message).hospital for message in trainings] == ["hospital-2", "hospital-3", "hospital-1"]
    # The engine hands out what was sent to the node that was registered first, first: here the one numbered highest.
    assert [message.metadata.dst_node_id for message in trainings] == [3, 2, 1]
    assert list(run.rounds()[1]["hospitals"]) == ["hospital-1", "hospital-2", "hospital-3"]


def test_many_hospitals_are_all_asked_whatever_their_sizes() -> None:
    names = [f"hospital-{number:03d}" for number in range(200)]
    sizes = {name: int(size) for name, size in zip(names, np.random.default_rng(0).permutation(200), strict=True)}
    grid = SerialGrid(ClientApp(), 3)
    seats = Seats.wait(grid, 3, threading.Event(), 1.0, 5.0, sizes=sizes)
    replies = list(seats.send([(Train(name, 1, "{}"), {"model": {}}) for name in names], lambda reply: None))
    assert [reply.hospital for reply in replies] == names
    asked = [sizes[request_of(message).hospital] for message in grid.asked]
    assert sorted(asked) == list(range(200)) and asked[:64] == sorted(asked[:64], reverse=True)


class EmptyGrid(SerialGrid):
    """Nodes register late, and one hospital never answers."""

    looks = 0

    def get_node_ids(self):  # type: ignore[no-untyped-def]
        self.looks += 1
        return range(1, 2 if self.looks < 5 else 4)

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        silent = {
            m.metadata.message_id
            for m in self.asked
            if request_of(m).hospital == "hospital-1" and m.metadata.message_type == "train"
        }
        return super().pull_messages([known for known in message_ids if known not in silent])


def test_no_request_is_sent_before_the_seats_have_registered_and_silence_ends_at_the_timeout(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1, federation__round_timeout=2.0)
    run = tiny_run(tmp_path / "run", config)
    grid = EmptyGrid(serial_grid().client_app, 3)
    store = open_source(config.data, config.seed)
    run_on(Experiment(config, run, store, run.partition(), Watcher(), threading.Event()), grid, seats=3)
    assert {message.metadata.dst_node_id for message in grid.asked[:3]} == {1, 2, 3}
    assert run.rounds()[1]["refused"] == [{"hospital": "hospital-1", "reason": "no reply within 2 s"}]


class LateGrid(SerialGrid):
    """The reply of hospital-1 to its training in round 1 arrives in round 2, unasked."""

    delivered = 0

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        trainings = [message for message in self.asked if message.metadata.message_type == "train"]
        late = next((m.metadata.message_id for m in trainings if request_of(m).hospital == "hospital-1"), "")
        wanted = {known for known in message_ids if known != late}
        replies = list(super().pull_messages(wanted))
        if any(m.metadata.message_id in wanted and request_of(m).round == 2 for m in trainings):
            came = list(super().pull_messages([late]))
            self.delivered += len(came)
            replies = came + replies
        return replies


def test_a_reply_that_comes_in_the_next_round_is_discarded(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=2, federation__round_timeout=2.0)
    late, never = tiny_run(tmp_path / "late", config), tiny_run(tmp_path / "never", config)
    federate(late, config, grid := LateGrid(serial_grid().client_app, 3))
    assert grid.delivered == 1

    def spoil(asked: Message, reply: Message) -> Message:
        request = request_of(asked)
        if (request.kind, request.round, request.hospital) == ("train", 1, "hospital-1"):
            raise RuntimeError("no power")
        return reply

    federate(never, config, serial_grid(spoil))
    assert [record["refused"] for record in late.rounds()] == [
        [],
        [{"hospital": "hospital-1", "reason": "no reply within 2 s"}],
        [],
    ]
    assert equal(weights(late, config), weights(never, config))


def test_only_so_many_requests_are_under_way_and_the_bits_do_not_show_it(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(federation__rounds=2, hospitals__count=7)
    one, two = whole(config), tiny_run(tmp_path / "two", config)

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
    assert equal(weights(one, config), weights(two, config))


class Meanwhile(SerialGrid):
    """One reply at a time comes, in the order in which the hospitals were asked."""

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        return super().pull_messages(list(message_ids)[:1])


@pytest.mark.parametrize(
    ("update", "actors", "most", "secure"),
    [(0, 2, 64, 64), (1, 2, 64, 32), (4, 2, 16, 8), (100, 2, 5, 5), (100, 9, 18, 18), (100, 99, 64, 64)],
)
def test_early_updates_take_the_memory_of_a_few_however_many_hospitals(
    monkeypatch: pytest.MonkeyPatch, update: int, actors: int, most: int, secure: int
) -> None:
    monkeypatch.setattr("server.exchange._EARLY_BYTES", 64 * 1024)
    monkeypatch.setattr("server.exchange._POLL_SECONDS", 0.0)
    names = [f"hospital-{number:03d}" for number in range(200)]
    # The last of those that are asked together is the first that is awaited, so all others are early.
    sizes = {name: number for number, name in enumerate(names)}
    seats = Seats.wait(Meanwhile(ClientApp(), 3), 3, threading.Event(), 1.0, 60.0, actors, sizes)
    early, held = set[str](), list[int]()

    def arrived(reply: Reply) -> None:
        early.add(reply.hospital)
        held.append(len(early))

    model = {"w": np.zeros(update * 256, np.float32)}
    kinds: list[tuple[Callable[[str], Request], int]] = [
        (lambda name: Train(name, 1, "{}"), most),
        (lambda name: Evaluate(name, 1, "{}"), 64),
        (lambda name: Train(name, 1, "{}", members="a\nb"), secure),
    ]
    for request, expected in kinds:
        held.clear()
        replies = []
        for reply in seats.send([(request(name), {"model": model}) for name in names], arrived):
            early.remove(reply.hospital)
            replies.append(reply.hospital)
        assert replies == names and max(held) == expected


@pytest.mark.parametrize("optimizer_state", ["reset", "average"])
def test_global_arrays_are_packed_once_a_round_and_model_however_many_hospitals_and_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer_state: str
) -> None:
    packings: list[Arrays] = []

    def counting(arrays: Arrays, bfloat16: bool = False) -> ArrayRecord:
        packings.append(arrays)
        return to_record(arrays, bfloat16)

    monkeypatch.setattr(exchange, "to_record", counting)
    config = tiny_config(federation__rounds=2, training__optimizer_state=optimizer_state)
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    best = final(run, config).best[""].round
    # The models of rounds 0, 1 and 2, to be scored, tested and trained on; the best one comes back from its file.
    models = 3 + (best != 2)
    moments = 2 if optimizer_state == "average" else 0
    assert len(packings) == models + moments
    assert sum(any(name.startswith("v/") for name in arrays) for arrays in packings) == moments


def test_a_process_that_takes_the_place_of_a_dead_one_is_noted_with_its_round() -> None:
    class Answering(SerialGrid):
        """Each message is answered by the next of these processes."""

        processes = (11, 12, 13)

        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            replies = []
            for number, asked in enumerate(self.asked):
                if asked.metadata.message_id in set(message_ids):
                    said = RecordDict({"metrics": MetricRecord({"process": self.processes[number % 3]})})
                    replies.append(Message(said, reply_to=asked))
            return replies

    notes = list[str]()
    grid = Answering(ClientApp(), 1)
    seats = Seats.wait(grid, 1, threading.Event(), 1.0, 5.0, actors=2, note=notes.append)
    asked = [(Train(name, 4, "{}"), {"model": {"w": np.zeros(1)}}) for name in ("a", "b", "c")]
    assert all(reply.content is not None for reply in seats.send(asked, lambda reply: None))
    assert notes == ["round 4: a training process died; process 13 took its place"]
