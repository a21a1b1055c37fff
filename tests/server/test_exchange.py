"""Requests to sites are answered whatever becomes of links and machines, as long as there are signs of life."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedpolyp.exchange.replies import Reply
from fedpolyp.exchange.requests import Train
from fedpolyp.model.arrays import Arrays
from fedpolyp.simulation.records import to_record
from server import exchange
from server.exchange import Packed, Seats
from tests.tiny import request_of

UNAVAILABLE = Error(ErrorCode.NODE_UNAVAILABLE, "Error: Node Unavailable — no heartbeat")


@dataclass
class Site:
    """A site as Flower sees it: what it does with each request that it takes, and whether it is connected."""

    name: str
    answers: list[Error | None]  # to its requests, one after the other; None for work done
    polls: int = 0  # how often the coordinator asks before the answer is there
    online: bool = True
    activated: int = 1
    taken: list[Message] = field(default_factory=list)


class SitesGrid(Grid):
    """Sites whose fate `each_poll` decides, whenever the coordinator looks for replies."""

    def __init__(self, *sites: Site, each_poll: Callable[[int], None] = lambda poll: None) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.sites = dict(enumerate(sites, 101))
        self.each_poll = each_poll
        self.polled = 0
        self.looked = False  # who is connected, since it last looked for replies
        self.under_way: dict[str, tuple[Site, Message, int]] = {}  # with the poll at which it is answered
        self.lost: set[str] = set()  # messages that nobody will answer

    def poll(self) -> None:
        self.polled += 1
        self.looked = False
        self.each_poll(self.polled)

    def get_nodes(self) -> Iterable[Any]:
        if self.looked:  # and had no message to look for
            self.poll()
        self.looked = True

        @dataclass
        class Node:
            node_id: int
            name: str
            last_activated_at: str

        return [Node(number, site.name, str(site.activated)) for number, site in self.sites.items() if site.online]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            site = self.sites[message.metadata.dst_node_id]
            message.metadata.__dict__["_message_id"] = str(uuid4())
            site.taken.append(message)
            self.under_way[message.metadata.message_id] = site, message, self.polled + site.polls
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if self.looked:  # the first of the messages that it looks for
            self.poll()
        replies = []
        for known in message_ids:
            site, asked, due = self.under_way[known]
            if not site.online:  # the message itself stays
                replies.append(Message(UNAVAILABLE, reply_to=asked))
                continue
            if self.polled < due or not site.answers or known in self.lost:
                continue
            answer = site.answers.pop(0)
            del self.under_way[known]
            done = RecordDict({"metrics": MetricRecord({"request": len(site.taken)})})
            replies.append(Message(done if answer is None else answer, reply_to=asked))
        return replies

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: object, **kwargs: object) -> Any: ...

    def get_node_ids(self) -> Iterable[int]:
        return list(self.sites)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any: ...


class Clock:
    """Time that passes by being looked at, a millisecond each time, however slow the machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("server.exchange.time", clock)
    monkeypatch.setattr("server.exchange._SITES_POLL_SECONDS", 0.001)
    return clock


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.exchange._AGAIN_SECONDS", 0.0)


def seats_of(grid: Grid, timeout: float = 60.0, notes: list[str] | None = None) -> Seats:
    note = (lambda text: None) if notes is None else notes.append
    return Seats(grid, (), threading.Event(), timeout, own_names=True, note=note)


def ask(seats: Seats, *names: str, round: int = 1) -> dict[str, Reply]:
    model = {"w": np.zeros(3)}
    requests = [(Train(name, round, "{}"), {"model": model}) for name in names]
    replies = list(seats.send(requests, lambda reply: None))
    assert [reply.hospital for reply in replies] == list(names)
    return {reply.hospital: reply for reply in replies}


def test_a_reply_that_flower_cannot_read_is_that_sites_alone() -> None:
    class Unreadable(SitesGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = super().pull_messages(message_ids)
            if any(request_of(asked).hospital == "oslo" for asked in self.answered(found)):
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            return found

        def answered(self, found: Iterable[Message]) -> list[Message]:
            ids = {reply.metadata.reply_to_message_id for reply in found}
            return [asked for site in self.sites.values() for asked in site.taken if asked.metadata.message_id in ids]

    grid = Unreadable(Site("oslo", [None]), Site("bergen", [None]))
    replies = ask(seats_of(grid), "bergen", "oslo")
    assert replies["oslo"].reason == "its reply cannot be read: UnicodeDecodeError"
    assert replies["bergen"].content is not None


def test_a_failure_of_the_coordinators_own_connection_blames_no_site() -> None:
    class Down(SitesGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        ask(seats_of(Down(Site("oslo", [None]))), "oslo")


def test_a_site_that_disappears_in_a_round_is_asked_again_when_it_is_back() -> None:
    oslo, bergen = Site("oslo", [None], polls=10), Site("bergen", [None])

    def fate(poll: int) -> None:
        oslo.online = not 3 <= poll < 8
        if poll == 8:  # the process that had taken the request was killed
            oslo.activated, grid.lost = 2, set(grid.under_way)

    notes: list[str] = []
    grid = SitesGrid(oslo, bergen, each_poll=fate)
    replies = ask(seats_of(grid, notes=notes), "bergen", "oslo")
    assert replies["oslo"].content is not None and replies["bergen"].content is not None
    first, second = (request_of(message) for message in oslo.taken)
    assert first == second and len(bergen.taken) == 1
    assert [message.content["model"] for message in oslo.taken] == [bergen.taken[0].content["model"]] * 2
    assert notes == [
        "round 1: oslo is no longer connected: its machine or its link has failed; it is asked again when it is back",
        "round 1: oslo is asked again",
    ]


def test_a_site_that_was_restarted_unseen_is_asked_again() -> None:
    # The coordinator was waiting for another site's slow reply: it has missed that the site was away.
    oslo = Site("oslo", [])

    def fate(poll: int) -> None:
        if poll == 3:  # the request went to the process that was killed
            grid.lost, oslo.activated, oslo.answers = set(grid.under_way), 2, [None]

    grid = SitesGrid(oslo, each_poll=fate)
    assert ask(seats_of(grid), "oslo")["oslo"].content is not None and len(oslo.taken) == 2


def test_a_site_whose_heartbeats_paused_and_that_replies_is_not_asked_twice() -> None:
    oslo = Site("oslo", [None], polls=5)

    def fate(poll: int) -> None:
        oslo.activated = 1 + (poll >= 5)

    assert ask(seats_of(SitesGrid(oslo, each_poll=fate)), "oslo")["oslo"].content is not None
    assert len(oslo.taken) == 1


@pytest.mark.parametrize("code", [ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
def test_a_reply_that_broke_off_on_its_way_is_asked_for_again(code: int) -> None:
    oslo = Site("oslo", [*[Error(code, "Reply message objects are unavailable")] * 5, None])
    assert ask(seats_of(SitesGrid(oslo)), "oslo")["oslo"].content is not None
    assert len(oslo.taken) == 6


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
        ErrorCode.INVALID_FAB,
        ErrorCode.UNKNOWN,
        ErrorCode.MOD_FAILED_PRECONDITION,
    ],
)
def test_a_refusal_is_final(code: int) -> None:
    oslo = Site("oslo", [Error(code, "this site allows steps up to 5"), None])
    reply = ask(seats_of(SitesGrid(oslo)), "oslo")["oslo"]
    assert reply == Reply("oslo", None, "this site allows steps up to 5") and len(oslo.taken) == 1


def test_a_program_that_crashes_each_time_is_given_up_after_the_third() -> None:
    oslo = Site("oslo", [Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding.")] * 9)
    reply = ask(seats_of(SitesGrid(oslo)), "oslo")["oslo"]
    assert reply == Reply("oslo", None, "ClientApp stopped responding.") and len(oslo.taken) == 3
    oslo = Site("oslo", [Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding."), None])
    assert ask(seats_of(SitesGrid(oslo)), "oslo")["oslo"].content is not None


def test_a_site_gone_for_good_costs_the_timeout_once_and_is_then_left_out() -> None:
    oslo, bergen = Site("oslo", []), Site("bergen", [None] * 9)

    def fate(poll: int) -> None:
        oslo.online = False

    seats = seats_of(SitesGrid(oslo, bergen, each_poll=fate), timeout=0.05)
    gone = "it gave no sign of life for 0 s: its machine or its link has failed"
    assert ask(seats, "bergen", "oslo")["oslo"] == Reply("oslo", None, gone)
    # In the same round and in the next, without waiting.
    seats = Seats(seats.grid, (), seats.stop, 1e6, own_names=True, taking_part=seats.taking_part)
    assert ask(seats, "bergen", "oslo")["oslo"] == Reply("oslo", None, "it is not connected")
    assert ask(seats, "bergen", "oslo", round=2)["oslo"] == Reply("oslo", None, "it is not connected")


def test_a_site_that_is_away_between_two_messages_of_a_round_is_waited_for() -> None:
    oslo = Site("oslo", [None, None])
    grid = SitesGrid(oslo)
    seats = seats_of(grid)
    assert ask(seats, "oslo")["oslo"].content is not None
    oslo.online = False
    start = grid.polled

    def fate(poll: int) -> None:
        oslo.online, oslo.activated = poll > start + 4, 2

    grid.each_poll = fate
    assert ask(seats, "oslo")["oslo"].content is not None  # as to validate the round's model


def test_a_large_site_that_is_connected_and_at_work_is_waited_for_beyond_the_timeout() -> None:
    # The timeout is gone before the first look for replies; the large site takes 20 times as many.
    small, large = Site("bergen", [None], polls=1), Site("oslo", [None], polls=20)
    notes: list[str] = []
    replies = ask(seats_of(SitesGrid(small, large), timeout=0.005, notes=notes), "bergen", "oslo")
    assert replies["oslo"].content is not None and replies["bergen"].content is not None
    assert len(notes) == 1 and "oslo has not replied for" in notes[0] and "but is connected" in notes[0]


def test_a_site_that_is_connected_and_never_replies_does_not_hold_the_others_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.exchange._AT_WORK", 2)
    reply = ask(seats_of(SitesGrid(Site("oslo", [])), timeout=0.01), "oslo")["oslo"]
    assert reply == Reply("oslo", None, "no reply within 0 s")


def test_who_replied_while_the_coordinator_took_a_slow_reply_is_not_late(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To take a reply lasts as long as its sender sends: here longer than the time for all.
    monkeypatch.setattr("server.exchange._AT_WORK", 1)
    bergen, oslo = Site("bergen", [None], polls=2), Site("oslo", [None], polls=1)

    def fate(poll: int) -> None:
        if poll == 1:
            clock.now += 0.2

    replies = ask(seats_of(SitesGrid(bergen, oslo, each_poll=fate), timeout=0.1), "bergen", "oslo")
    assert replies["bergen"].content is not None and replies["oslo"].content is not None


def test_arrays_are_packed_once_whoever_they_are_sent_to_and_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    packings: list[Arrays] = []

    def counting(arrays: Arrays, bfloat16: bool = False) -> ArrayRecord:
        packings.append(arrays)
        return to_record(arrays, bfloat16)

    monkeypatch.setattr(exchange, "to_record", counting)
    sites = [Site(name, [None, None]) for name in ("bergen", "oslo")]
    seats, model, moments = seats_of(SitesGrid(*sites)), {"w": np.zeros(3)}, {"m/w": np.ones(3)}
    for sent in ({"model": model, "optimizer": moments}, {"model": model}):
        requests = [(Train(site.name, 1, "{}"), sent) for site in sites]
        assert all(reply.content is not None for reply in seats.send(requests, lambda reply: None))
    assert [arrays is model for arrays in packings] == [True, False] and packings[1] is moments


def test_other_arrays_with_the_same_values_are_packed_for_themselves_and_few_are_kept() -> None:
    packed, sent = Packed(), [{"w": np.full(3, value)} for value in range(6)]
    records = [packed.record(arrays) for arrays in sent]
    assert len({id(record) for record in records}) == 6 and len(packed.known) == 4
    assert packed.record(sent[5]) is records[5] and packed.record({"w": np.full(3, 5)}) is not records[5]
