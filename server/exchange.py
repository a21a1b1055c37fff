"""Messages to hospitals through Flower: requests go out, replies are returned in the order of the requests."""

import math
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedpolyp.errors import FedpolypError, Interrupted
from fedpolyp.exchange.packing import carried_bytes
from fedpolyp.exchange.replies import Reply, Sent
from fedpolyp.exchange.requests import Request, Train
from fedpolyp.model.arrays import Arrays
from fedpolyp.simulation.records import RecordContent, to_content, to_record
from fedpolyp.text import printable

_POLL_SECONDS = 0.02
_SITES_POLL_SECONDS = 0.5
# Requests at a time: Flower looks through all of them whenever it is asked for replies.
_UNDER_WAY = 64
# Bytes of updates that came before their turn; but no process should wait for a request to keep to it.
_EARLY_BYTES = 256 * 1024**2
_FEWEST_UNDER_WAY = 5
_WORD_BYTES = 8
# Characters of a reason that are kept, and that are read: Flower and Ray wrap a lot of text around it.
_KEPT, _LOOKED_AT = 500, 100_000
# Flower's reply for a site whose reply broke off or came too late; such a request is sent again.
_LINK_FAILED = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)
_AGAIN_SECONDS = 10.0  # at least, from one sending of a request to the next
_KEPT_PACKED = 4  # a model, the arrays sent beside it, and the best model
_CRASHES = 3  # of a site's program in one request: more tries would end in the same way
_AT_WORK = 24  # times `round_timeout`: the longest time for a site that stays connected
_FAILED = "its machine or its link has failed"
_WRAPPED = re.compile(r"^<class '[\w.]+'>:<'")


@dataclass(frozen=True)
class Packed:
    """The newest arrays that were sent, as Flower carries them: a model is packed once for all hospitals."""

    bfloat16: bool = False
    known: "deque[tuple[Arrays, ArrayRecord]]" = field(default_factory=lambda: deque(maxlen=_KEPT_PACKED))

    def record(self, arrays: Arrays) -> ArrayRecord:
        """`arrays`, which nobody changes, packed."""
        for packed, record in self.known:
            if packed is arrays:
                return record
        self.known.append((arrays, to_record(arrays, self.bfloat16)))
        return self.known[-1][1]


@dataclass(frozen=True)
class Seats:
    """The nodes that play hospitals, and how long to wait for them: a `fedpolyp.exchange.replies.Exchange`.

    In a simulation any node plays any hospital. At real sites (`own_names`) a node is the hospital under whose name it
    was registered, and sites may connect and disconnect between exchanges.
    """

    grid: Grid
    nodes: tuple[int, ...]
    stop: threading.Event
    timeout: float
    actors: int | None = None
    processes: set[int] = field(default_factory=set)  # that have replied so far
    own_names: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)  # images of the hospitals, where they are known
    signs: dict[str, float] = field(default_factory=dict)  # when each site was last seen connected
    taking_part: dict[str, int] = field(default_factory=dict)  # the last round in which each was asked
    patience: list[float] = field(default_factory=list)  # for the first `connect`; later ones have none
    note: Callable[[str], None] = lambda text: None
    packed: Packed = field(default_factory=Packed)

    @classmethod
    def wait(
        cls,
        grid: Grid,
        at_least: int,
        stop: threading.Event,
        patience: float,
        timeout: float,
        actors: int | None = None,
        sizes: Mapping[str, int] | None = None,
        note: Callable[[str], None] = lambda text: None,
        packed: Packed | None = None,
    ) -> "Seats":
        """Wait until `at_least` nodes have registered: Flower starts the ServerApp before its nodes exist.

        The seats are in the order in which Flower's engine distributes messages: that of their registration.

        Raises:
            FedpolypError: too few nodes registered in `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while len(nodes := list(grid.get_nodes())) < at_least:
            if stop.is_set():
                raise Interrupted("interrupted before the first round")
            if time.monotonic() > deadline:
                raise FedpolypError(f"only {len(nodes)} of {at_least} seats registered within {patience:.0f} s")
            time.sleep(_POLL_SECONDS)
        nodes.sort(key=lambda node: (node.registered_at, node.node_id))
        ids = tuple(node.node_id for node in nodes)
        return cls(grid, ids, stop, timeout, actors, sizes=sizes or {}, note=note, packed=packed or Packed())

    def connect(self, hospitals: Sequence[str], at_least: int) -> None:
        """At real sites, wait until all of `hospitals` are connected, or, once patience ends, `at_least` of them.

        Raises:
            FedpolypError: fewer were connected for as long as a round may take.
            Interrupted: `stop` was set.
        """
        patience = self.patience.pop() if self.patience else 0.0
        began, told = time.monotonic(), False
        while self.own_names and (missing := sorted(set(hospitals) - self._connected().keys())):
            waited, enough = time.monotonic() - began, len(hospitals) - len(missing) >= at_least
            if enough and waited >= patience:
                return
            if waited > self.timeout:
                raise FedpolypError(f"not connected for {self.timeout:.0f} s: {', '.join(missing)}")
            if self.stop.is_set():
                raise Interrupted("interrupted while waiting for sites")
            if not told:
                self.note(f"waiting for {', '.join(missing)}")
                told = True
            self.stop.wait(_SITES_POLL_SECONDS)

    def _connected(self) -> dict[str, Any]:
        """The connected sites, by name, from Flower's list of nodes; this counts as a sign of life of each."""
        nodes = {node.name: node for node in self.grid.get_nodes()}
        self.signs.update(dict.fromkeys(nodes, time.monotonic()))
        return nodes

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        """Send every request; the returned iterator gives the replies in the order of `requests`.

        Early replies are held back, so that the result does not depend on which hospital was fastest; `arrived` is told
        of each one at once.

        A site that takes part in a round and disappears is asked again as soon as it is back. It is given up after
        `timeout` seconds without a connection; a site that stays connected is given up after `_AT_WORK` times as long.

        Raises:
            Interrupted: (the iterator) `stop` was set.
        """
        most = self._most_under_way(requests)
        queue = self._largest_first(requests, most)
        exchange = _Exchange(self, {to[0].hospital: to for to in queue}, arrived, most)
        exchange.ask(self._connected() if self.own_names else {})
        return exchange.replies([request.hospital for request, _ in requests])

    def _most_under_way(self, requests: Sequence[tuple[Request, Sent]]) -> int:
        """How many of `requests` may be under way at a time, together with replies that came before their turn.

        An update has about the size of what was sent (in a secure sum a word for each number), so the memory for early
        ones does not grow with the hospitals.
        """
        if not requests or not isinstance(request := requests[0][0], Train):
            return _UNDER_WAY
        groups = requests[0][1].values()
        if request.members:
            update = sum(_WORD_BYTES * array.size for arrays in groups for array in arrays.values())
        else:
            update = sum(carried_bytes(arrays, self.packed.bfloat16) for arrays in groups)
        processes = self.actors or os.cpu_count() or 1
        return min(_UNDER_WAY, max(_EARLY_BYTES // max(1, update), 2 * processes, _FEWEST_UNDER_WAY))

    def _largest_first(self, requests: Sequence[tuple[Request, Sent]], most: int) -> list[tuple[Request, Sent]]:
        """The requests in the order of sending: large hospitals first, so that no process ends long after the others.

        Only among as many as may be open at a time: replies are awaited in the order of `requests`, and a request that
        is not sent yet could be awaited for ever.
        """
        queue: list[tuple[Request, Sent]] = []
        for first in range(0, len(requests), most):
            some = requests[first : first + most]
            queue += sorted(some, key=lambda one: -self.sizes.get(one[0].hospital, 0))
        return queue

    def replacement(self, reply: Reply) -> int | None:
        """The process that sent `reply`, if it replaces one of the `actors` that has died."""
        process = None if self.actors is None else _process(reply)
        if self.actors is None or process is None:
            return None
        new = process not in self.processes
        self.processes.add(process)
        return process if new and len(self.processes) > self.actors else None


@dataclass(frozen=True)
class _Sent:
    """A message that has been sent."""

    hospital: str
    since: str  # when the site had last connected before it, as Flower reports


@dataclass
class _Exchange:
    """The requests of one `Seats.send`, and their state."""

    seats: Seats
    open: dict[str, tuple[Request, Sent]]  # by hospital, neither answered nor given up, in the order of sending
    arrived: Callable[[Reply], None]
    most: int  # under way at a time, but for real sites
    waiting: dict[str, _Sent] = field(default_factory=dict)  # by the messages' ids
    held: dict[str, Reply] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)  # when each was last asked
    crashes: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    told: set[str] = field(default_factory=set)  # which late hospitals were reported
    away: set[str] = field(default_factory=set)  # asked, and not connected

    def __post_init__(self) -> None:
        self.seat_of = {hospital: seat for seat, hospital in enumerate(self.open)}

    def replies(self, hospitals: Sequence[str]) -> Iterator[Reply]:
        """The replies in the order of `hospitals`, each as soon as it is there or given up."""
        seats, self.began = self.seats, time.monotonic()
        for hospital in hospitals:
            while hospital not in self.held:
                # First take replies: a pull lasts as long as a slow site sends, and sites that replied meanwhile are
                # not late.
                nodes, now = seats._connected() if seats.own_names else {}, time.monotonic()
                self._pull(nodes)
                self._note_who_is_away(nodes)
                self.ask(nodes)
                if hospital in self.held:
                    break
                if seats.stop.is_set():
                    raise Interrupted("interrupted")
                if why := self._why_given_up(hospital, nodes, now):
                    self._close(Reply(hospital, None, why))
                else:
                    seats.stop.wait(_SITES_POLL_SECONDS if seats.own_names else _POLL_SECONDS)
            yield self.held.pop(hospital)

    def ask(self, nodes: Mapping[str, Any]) -> None:
        """Send the requests that are due; at sites, those that its site in `nodes` has not had since it connected."""
        now, seats, batch = time.monotonic(), self.seats, list[tuple[_Sent, Message]]()
        under_way = set(self.waiting.values())
        for name, (request, sent_with) in self.open.items():
            if seats.own_names:
                if name not in nodes or now - self.sent.get(name, -math.inf) < _AGAIN_SECONDS:
                    continue
                sent, node = _Sent(name, nodes[name].last_activated_at), nodes[name].node_id
            else:
                if len(self.waiting) + len(self.held) + len(batch) >= self.most:
                    break
                sent, node = _Sent(name, ""), seats.nodes[self.seat_of[name] % len(seats.nodes)]
            if sent in under_way:
                continue
            if name in self.sent:
                seats.note(f"round {request.round}: {name} is asked again")
            self.sent[name], seats.taking_part[name] = now, request.round
            groups = {group: seats.packed.record(arrays) for group, arrays in sent_with.items()}
            batch.append((sent, Message(to_content(request, groups), node, request.kind)))
        ids = seats.grid.push_messages([message for _, message in batch]) if batch else []
        self.waiting.update(zip(ids, (sent for sent, _ in batch), strict=True))

    def _pull(self, nodes: Mapping[str, Any]) -> None:
        """Take the replies that have come."""
        for message in self._arrived(nodes):
            asked = message.metadata.reply_to_message_id
            sent = self.waiting.get(asked)
            if sent is None:  # it was asked twice, and has replied
                continue
            at_site, code = self.seats.own_names, message.error.code if message.has_error() else None
            if at_site and code == ErrorCode.NODE_UNAVAILABLE:
                continue  # if only its link broke, its reply to this message may still come
            del self.waiting[asked]
            reply = _reply(sent.hospital, message)
            if at_site and self._may_pass(sent.hospital, code):
                self.seats.note(f"round {self.open[sent.hospital][0].round}: {sent.hospital}: {reply.reason}")
            else:
                self._close(reply)

    def _note_who_is_away(self, nodes: Mapping[str, Any]) -> None:
        away = (
            {name for name in self.open if name in self.sent and name not in nodes} if self.seats.own_names else set()
        )
        for name in sorted(away - self.away):
            number = self.open[name][0].round
            self.seats.note(
                f"round {number}: {name} is no longer connected: {_FAILED}; it is asked again when it is back"
            )
        self.away = away

    def _arrived(self, nodes: Mapping[str, Any]) -> list[Message]:
        """The messages that have come.

        At real sites they are requested one by one: if Flower cannot read a reply, only that reply is rejected, and no
        other is lost. Nothing comes from a site that is not connected.
        """
        grid = self.seats.grid
        if not self.seats.own_names:
            return list(grid.pull_messages(list(self.waiting)))
        messages = []
        for known, sent in list(self.waiting.items()):
            try:
                if known in self.waiting and sent.hospital in nodes:
                    messages += list(grid.pull_messages([known]))
            except Exception as error:
                if _of_the_connection(error):
                    raise
                self._close(Reply(sent.hospital, None, f"its reply cannot be read: {type(error).__name__}"))
        return messages

    def _may_pass(self, hospital: str, code: int | None) -> bool:
        self.crashes[hospital] += code == ErrorCode.CLIENT_APP_CRASHED
        crashed = code == ErrorCode.CLIENT_APP_CRASHED and self.crashes[hospital] < _CRASHES
        return crashed or code in _LINK_FAILED

    def _why_given_up(self, hospital: str, nodes: Mapping[str, Any], now: float) -> str:
        """Why it is given up; '' if it is still awaited."""
        seats, waited = self.seats, now - self.began
        if not seats.own_names:
            return f"no reply within {seats.timeout:.0f} s" if waited > seats.timeout else ""
        if hospital in nodes:
            if waited > seats.timeout and hospital not in self.told:
                self.told.add(hospital)
                most = _AT_WORK * seats.timeout
                self.seats.note(f"{hospital} has not replied for {waited:.0f} s, but is connected: it has {most:.0f} s")
            return f"no reply within {waited:.0f} s" if waited > _AT_WORK * seats.timeout else ""
        number = self.open[hospital][0].round
        gone = now - seats.signs.get(hospital, -math.inf)
        if hospital not in self.sent and (seats.taking_part.get(hospital, -1) < number or gone > seats.timeout):
            return "it is not connected"
        return f"it gave no sign of life for {seats.timeout:.0f} s: {_FAILED}" if gone > seats.timeout else ""

    def _close(self, reply: Reply) -> None:
        number = self.open.pop(reply.hospital)[0].round
        self.waiting = {id_: sent for id_, sent in self.waiting.items() if sent.hospital != reply.hospital}
        self.held[reply.hospital] = reply
        if process := self.seats.replacement(reply):
            self.seats.note(f"round {number}: a training process died; process {process} took its place")
        self.arrived(reply)


def _reply(hospital: str, message: Message) -> Reply:
    if message.has_error():
        return Reply(hospital, None, _reason(message.error.reason or ""))
    return Reply(hospital, RecordContent(message.content))


def _process(reply: Reply) -> int | None:
    """The process that a reply says it comes from; None if it does not say."""
    process = None if reply.content is None else reply.content.said.get("process")
    return process if type(process) is int else None


def _of_the_connection(error: Exception) -> bool:
    """Whether `error`, from Flower's grid, is about the connection to the coordinator's own SuperLink."""
    from httpx import HTTPError  # which Flower's grid at sites has loaded

    return isinstance(error, (HTTPError, OSError))


def _reason(text: str) -> str:
    """Why a hospital failed, from whatever it says: one short, printable line."""
    return printable(_plain_reason(text[-_LOOKED_AT:]), _KEPT)


def _plain_reason(reason: str) -> str:
    """The one line that says what went wrong, without the text that Flower and Ray wrap around it."""
    if "ActorDiedError" in reason or "ActorUnavailableError" in reason:
        return "its process died each time that it tried this round"
    if "Node Unavailable" in reason:
        return f"it gave no sign of life for a minute: {_FAILED}"
    lines = [line.strip() for line in reason.replace("\\n", "\n").splitlines() if line.strip(" '>\"")]
    return _WRAPPED.sub("", lines[-1]).removesuffix("'>") if lines else "it failed without a reason"
