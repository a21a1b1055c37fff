"""What asking a site again relies on, held against the very state of Flower's SuperLink, with a clock of the test's."""

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.server.superlink.linkstate import sql_linkstate, utils
from flwr.server.superlink.linkstate.linkstate_factory import LinkStateFactory
from flwr.serverapp import Grid
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager

from fedpolyp.exchange.replies import Reply
from fedpolyp.exchange.requests import Train
from fedpolyp.simulation.records import plain_request
from server.exchange import Seats

HEARTBEAT = 30.0


class SuperLinkGrid(Grid):
    """A coordinator's way to the SuperLink's state, and a site's; `steps` happen one at a look at who is connected."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        database, self.late, self.steps = str(folder / "superlink.db"), 0.0, list[Callable[[], None]]()
        self.state: Any = LinkStateFactory(database, NoOpFederationManager(), ObjectStoreFactory(database)).state()
        real = vars(sql_linkstate)["now"]
        for module in (sql_linkstate, utils):
            monkeypatch.setattr(module, "now", lambda: real() + timedelta(seconds=self.late))
        self.node = self.state.create_node(NOOP_FLWR_AID, "us", b"key", HEARTBEAT, name="oslo")
        self.run_id = self.state.create_run(
            "a/b", "1", "0" * 64, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run_id, SUPERLINK_NODE_ID
        self.contents: dict[str, RecordDict] = {}

    def get_nodes(self) -> Iterable[Any]:
        if self.steps and self.contents:  # not before the first request was sent
            self.steps.pop(0)()
        return list(self.state.get_node_info(statuses=["online"]))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            id_ = message.metadata.__dict__["_message_id"] = message.object_id
            self.contents[id_] = message.content
            assert self.state.store_message_ins(message) == id_
            ids.append(id_)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = self.state.get_message_res(set(message_ids), self.run_id)
        for reply in replies:
            if not reply.has_error():
                reply.content = self.contents[reply.metadata.message_id]
        return list(replies)

    def take(self) -> Message | None:
        """What the site's SuperNode gets when it asks for a message."""
        return next(iter(self.state.get_message_ins(self.node, 1)), None)

    def reply(self, asked: Message) -> bool:
        """Whether the SuperLink takes the site's reply."""
        reply = Message(RecordDict({"metrics": MetricRecord({"steps": 3})}), reply_to=asked)
        id_ = reply.metadata.__dict__["_message_id"] = reply.object_id
        self.contents[id_] = reply.content
        return self.state.store_message_res(reply) is not None

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: object, **kwargs: object) -> Any: ...

    def get_node_ids(self) -> Iterable[int]:
        return [self.node]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any: ...


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuperLinkGrid:
    monkeypatch.setattr("server.exchange._SITES_POLL_SECONDS", 0.001)
    monkeypatch.setattr("server.exchange._AGAIN_SECONDS", 0.0)
    grid = SuperLinkGrid(tmp_path, monkeypatch)
    assert grid.state.activate_node(grid.node, HEARTBEAT)
    return grid


def ask(grid: SuperLinkGrid, *steps: Callable[[], None]) -> tuple[Reply, list[str]]:
    """The reply to a request, with `steps` in between, and what was noted."""
    grid.steps, notes = list(steps), list[str]()
    seats = Seats(grid, (), threading.Event(), 20.0, own_names=True, note=notes.append)
    (reply,) = seats.send([(Train("oslo", 1, "{}"), {"model": {"w": np.zeros(3)}})], lambda reply: None)
    return reply, notes


def test_a_site_killed_with_a_request_is_let_in_after_a_minute_and_gets_it_again(grid: SuperLinkGrid) -> None:
    taken: list[Message] = []

    def take_and_die() -> None:
        taken.append(grid.take())  # type: ignore[arg-type]

    def back_too_early() -> None:
        grid.late = 59
        assert not grid.state.activate_node(grid.node, HEARTBEAT) and grid.take() is None

    def nobody() -> None:
        grid.late = 61

    def back() -> None:
        assert grid.state.activate_node(grid.node, HEARTBEAT)
        assert grid.take() is None, "Flower hands a request out once"

    def go_on() -> None:
        taken.append(grid.take())  # type: ignore[arg-type]
        assert grid.reply(taken[1])

    reply, notes = ask(grid, take_and_die, back_too_early, nobody, back, go_on)
    assert reply.content is not None and len(notes) == 2 and notes[1] == "round 1: oslo is asked again"
    first, second = (plain_request(grid.contents[message.metadata.message_id]) for message in taken)
    assert first == second and first["hospital"] == "oslo"


def test_a_site_whose_link_was_away_for_more_than_a_minute_may_still_reply_to_its_request(grid: SuperLinkGrid) -> None:
    taken: list[Message] = []

    def take() -> None:
        taken.append(grid.take())  # type: ignore[arg-type]

    def cut() -> None:
        grid.late = 61

    def whole_again() -> None:
        assert grid.state.acknowledge_node_heartbeat(grid.node, HEARTBEAT)
        assert grid.reply(taken[0])

    reply, notes = ask(grid, take, cut, whole_again)
    assert reply.content is not None and grid.take() is None, "it was asked again for nothing"
    assert len(notes) == 1 and "oslo is no longer connected" in notes[0]


def test_a_link_that_drops_while_nobody_looks_costs_nothing(grid: SuperLinkGrid) -> None:
    # The coordinator waits for the rest of another reply meanwhile.
    taken: list[Message] = []

    def take_and_drop_for_90_seconds() -> None:
        taken.append(grid.take())  # type: ignore[arg-type]
        grid.late = 90
        assert grid.state.acknowledge_node_heartbeat(grid.node, HEARTBEAT)
        assert grid.reply(taken[0])

    reply, notes = ask(grid, take_and_drop_for_90_seconds)
    assert reply.content is not None and notes == [] and grid.take() is None
