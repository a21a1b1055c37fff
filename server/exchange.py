"""One exchange of messages with hospitals: send orders, take the replies in hospital order, refuse the bad ones."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from clients.messages import Order, content_of
from fedpolyp.errors import FedpolypError
from fedpolyp.text import printable

_POLL_SECONDS = 0.05
_SITES_POLL_SECONDS = 0.5
# Orders at a time: Flower looks through all of them whenever it is asked for replies, and replies ahead of their turn
# take memory.
_UNDER_WAY = 64
# Characters of a reason: so many are kept, and so many are looked at: Flower and Ray wrap a lot around it.
_KEPT, _LOOKED_AT = 500, 100_000
_WRAPPED = re.compile(r"^<class '[\w.]+'>:<'")


class Interrupted(FedpolypError):
    """Somebody asked the run to stop."""


@dataclass(frozen=True)
class Reply:
    """A hospital's answer, or the reason why there is none."""

    hospital: str
    content: RecordDict | None
    reason: str = ""


@dataclass(frozen=True)
class Seats:
    """The nodes that play hospitals, and how long to wait for them.

    In a simulation any node plays any hospital. At real sites (`own_names`) a node is the hospital that it was
    registered as, and who is connected may change from one exchange to the next.
    """

    grid: Grid
    nodes: tuple[int, ...]
    stop: threading.Event
    timeout: float
    actors: int | None = None
    processes: set[int] = field(default_factory=set)  # that have replied so far
    own_names: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)  # images of the hospitals, where they are known

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
    ) -> "Seats":
        """Wait until `at_least` nodes have registered: Flower starts the ServerApp before its nodes are there.

        The seats are in the order in which Flower's engine hands out what was sent to them, which is that of their
        registration.

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
        return cls(grid, tuple(node.node_id for node in nodes), stop, timeout, actors, sizes=sizes or {})

    def connect(
        self, hospitals: Sequence[str], at_least: int, patience: float, note: Callable[[str], None] = lambda text: None
    ) -> None:
        """At real sites, wait until all of `hospitals` are connected, or, after `patience` seconds, `at_least` of them.

        Raises:
            FedpolypError: fewer were connected for as long as a round may take.
            Interrupted: `stop` was set.
        """
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
                note(f"waiting for {', '.join(missing)}")
                told = True
            self.stop.wait(_SITES_POLL_SECONDS)

    def _connected(self) -> dict[str, int]:
        return {node.name: node.node_id for node in self.grid.get_nodes()}

    def send(
        self,
        kind: str,
        orders: Sequence[Order],
        arrays: ArrayRecord,
        optimizer: ArrayRecord | None = None,
        arrived: Callable[[Reply], None] = lambda reply: None,
    ) -> Iterator[Reply]:
        """Send every order with the same weights; the iterator returned gives the replies in the order of `orders`.

        Replies ahead of their turn are held back, so that what is made of them does not depend on who was fastest;
        `arrived` hears of each one at once.

        Raises:
            Interrupted: (the iterator) `stop` was set.
        """
        queue = self._largest_first(orders)
        if self.own_names:
            nodes = self._connected()
        else:
            nodes = {order.hospital: self.nodes[seat % len(self.nodes)] for seat, order in enumerate(queue)}
        messages = (
            (order, Message(content_of(order, arrays, optimizer), nodes[order.hospital], kind))
            for order in queue
            if order.hospital in nodes
        )
        waiting = self._push(messages, _UNDER_WAY)
        absent = {order.hospital for order in orders} - nodes.keys()
        return self._gather(orders, messages, waiting, absent, arrived)

    def _largest_first(self, orders: Sequence[Order]) -> list[Order]:
        """The orders as they are sent: those of large hospitals first, so that no process ends long after the others.

        Only among as many as may be under way: the replies are awaited in the order of `orders`, and one that were not
        yet asked for could be awaited for ever.
        """
        queue: list[Order] = []
        for first in range(0, len(orders), _UNDER_WAY):
            some = orders[first : first + _UNDER_WAY]
            queue += sorted(some, key=lambda order: -self.sizes.get(order.hospital, 0))
        return queue

    def _push(self, messages: Iterator[tuple[Order, Message]], most: int) -> dict[str, Order]:
        """Send up to `most` of the messages that are left; their orders by the messages' ids."""
        batch = list(itertools.islice(messages, max(0, most)))
        ids = self.grid.push_messages([message for _, message in batch]) if batch else []
        return dict(zip(ids, (order for order, _ in batch), strict=True))

    def replacement(self, reply: Reply) -> int | None:
        """The process that sent `reply`, if it stands in for one of the `actors` that has died."""
        if self.actors is None or reply.content is None:
            return None
        process = reply.content.metric_records["metrics"]["process"]
        assert isinstance(process, int)
        new = process not in self.processes
        self.processes.add(process)
        return process if new and len(self.processes) > self.actors else None

    def _gather(
        self,
        orders: Sequence[Order],
        messages: Iterator[tuple[Order, Message]],
        waiting: dict[str, Order],
        absent: set[str],
        arrived: Callable[[Reply], None],
    ) -> Iterator[Reply]:
        held: dict[str, Reply] = {}
        deadline = time.monotonic() + self.timeout
        for order in orders:
            if order.hospital in absent:
                reply = Reply(order.hospital, None, "it is not connected")
                arrived(reply)
                yield reply
                continue
            while order.hospital not in held:
                for message in self.grid.pull_messages(list(waiting)):
                    reply = _reply(waiting.pop(message.metadata.reply_to_message_id).hospital, message)
                    held[reply.hospital] = reply
                    arrived(reply)
                waiting |= self._push(messages, _UNDER_WAY - len(waiting) - len(held))
                if order.hospital in held:
                    break
                if self.stop.is_set():
                    raise Interrupted("interrupted")
                if time.monotonic() > deadline:
                    late = Reply(order.hospital, None, f"no reply within {self.timeout:.0f} s")
                    held[order.hospital] = late
                    arrived(late)
                else:
                    self.stop.wait(_SITES_POLL_SECONDS if self.own_names else _POLL_SECONDS)
            yield held.pop(order.hospital)


def _reply(hospital: str, message: Message) -> Reply:
    if message.has_error():
        return Reply(hospital, None, _reason(message.error.reason or ""))
    return Reply(hospital, message.content)


def _reason(text: str) -> str:
    """Why a hospital failed, of whatever it says: one short line that prints."""
    return printable(_plain_reason(text[-_LOOKED_AT:]), _KEPT)


def _plain_reason(reason: str) -> str:
    """The one line that says what went wrong, out of what Flower and Ray wrap around it."""
    if "ActorDiedError" in reason or "ActorUnavailableError" in reason:
        return "its process died each time it was given this round"
    if "Node Unavailable" in reason:
        return "it gave no sign of life for a minute: its machine or its link has failed"
    lines = [line.strip() for line in reason.replace("\\n", "\n").splitlines() if line.strip(" '>\"")]
    return _WRAPPED.sub("", lines[-1]).removesuffix("'>") if lines else "it failed without a reason"
