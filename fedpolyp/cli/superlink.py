"""Starts Flower's SuperLink at the coordinator, with a gate that Flower 1.41 lacks: `python -m` this module.

Flower checks which node pushes a message, but not whose message it is: a hospital could push a request to another
hospital, or a reply in another's name. It also stores any number as a time, and any number of objects of any size. The
gate is called before Flower's two handlers for what hospitals push. All uses of Flower's private parts for this are
here; tests/cli/test_superlink.py checks them.
"""

import importlib
import logging
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Error, Message
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest, PushObjectResponse

from fedpolyp.sites.settings import CoordinatorSettings
from fedpolyp.text import printable

# A reply lives no longer than its request, half a day; and a site whose clock is wrong by minutes is not admitted.
_DAY = 86400.0
_LONGEST_WORK = 30 * _DAY
# Weights travel in pieces of 4 MiB, each of them two of Flower's objects; twice as many and some more are allowed.
_PIECE, _FEW = 4 * 1024**2, 64
_SESSIONS = 4096  # the newest, which are remembered: each of a message that is being pushed
_log = logging.getLogger("flwr")


def main() -> None:
    """Start it; arguments: the coordinator's folder, then those of `flower-superlink`."""
    settings = CoordinatorSettings.load(Path(sys.argv[1]))
    guard(settings.reply_megabytes * 1_000_000)
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    # The package hides this module behind a function of the same name.
    importlib.import_module("flwr.superlink.cli.flower_superlink").flower_superlink()


def guard(most_bytes: int) -> None:
    """Put a `Gate` before the handlers of this process's SuperLink."""
    from flwr.superlink.servicer.fleet import fleet_handlers as handlers

    gate = Gate(most_bytes, handlers.push_messages, handlers.push_object)
    handlers.push_messages = gate.push_messages
    handlers.push_object = gate.push_object


class Forged(Exception):
    """A message that is not its sender's own, or answers nothing: nobody waits for it."""


class Unfit(Exception):
    """A hospital's own reply that cannot be accepted; the round is told why."""


@dataclass
class _Pushed:
    """A reply whose objects are being pushed."""

    metadata: Any  # as in the request
    taken: int = 0  # bytes


@dataclass
class Gate:
    """Checks what hospitals push; a refused message is reported with the hospital's name.

    A reply that cannot be accepted is replaced by a failure that says why, so that its round goes on at once.
    """

    most_bytes: int  # of all objects of one reply
    messages: Callable[[PushMessagesRequest, Any], PushMessagesResponse]  # Flower's own handlers
    objects: Callable[[PushObjectRequest, Any], PushObjectResponse]
    _pushed: OrderedDict[str, _Pushed] = field(default_factory=OrderedDict)  # by session
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def most_objects(self) -> int:
        """Objects of one reply."""
        return _FEW + 4 * (self.most_bytes // _PIECE + 1)

    def push_messages(self, request: PushMessagesRequest, state: Any) -> PushMessagesResponse:
        """Accept the one reply of a hospital to its own request.

        Raises:
            HTTPException: the message is not the sender's own, or answers another's request.
        """
        order = None
        try:
            check_sender(request)
            order = state.get_valid_message_ins(request.messages_list[0].metadata.reply_to_message_id)
            if order is not None and order["dst_node_id"] % 2**64 != request.node.node_id:
                raise Forged("it replies to a request that was sent to another hospital")
            check_reply(request, self.most_objects, time.time())
        except Forged as error:
            raise self._refused(state, request.node.node_id, str(error)) from None
        except Unfit as error:
            metadata = request.messages_list[0].metadata
            if order is None:
                raise self._refused(state, request.node.node_id, str(error)) from None
            self._replace(state, metadata, str(error))
            return PushMessagesResponse(results={metadata.message_id: 0})
        # A reply that comes too late, to a request that is gone, is left to Flower to discard: its site must see no
        # error.
        answer = self.messages(request=request, state=state)  # type: ignore[call-arg]
        with self._lock:
            self._pushed[answer.session_id] = _Pushed(request.messages_list[0].metadata)
            while len(self._pushed) > _SESSIONS:
                self._pushed.popitem(last=False)
        return answer

    def push_object(self, request: PushObjectRequest, state: Any) -> PushObjectResponse:
        """Accept an object of a reply that this hospital is pushing, as long as all together are not too large."""
        node, size = request.node.node_id, len(request.object_content)
        with self._lock:
            pushed = self._pushed.get(request.session_id)
            own = pushed is not None and pushed.metadata.src_node_id == node
            fits = pushed is not None and pushed.taken + size <= self.most_bytes
            if pushed is not None and own and fits:
                pushed.taken += size
        if pushed is None or not own:
            # Flower refuses this itself, also for a run that has ended, which must not be an error for the site.
            request = PushObjectRequest(
                node=request.node, run_id=request.run_id, session_id="none", object_id=request.object_id
            )
            return self.objects(request=request, state=state)  # type: ignore[call-arg]
        if not fits:
            with self._lock:
                first = self._pushed.pop(request.session_id, None) is not None
            if first:
                state._cleanup_push_session(request.session_id, cleanup_messages=True)
                most = f"{self.most_bytes / 1e6:.0f} MB"
                why = f"its reply is larger than the {most} that reply_megabytes in coordinator.toml allows"
                self._replace(state, pushed.metadata, why)
            return PushObjectResponse(stored=False)
        answer = self.objects(request=request, state=state)  # type: ignore[call-arg]
        if not answer.stored:
            with self._lock:
                pushed.taken -= size
        return answer

    def _replace(self, state: Any, metadata: Any, reason: str) -> None:
        """Answer the request that `metadata` replies to with a failure; its hospital is known to be the request's."""
        _log.warning("%s: %s", _name(state, metadata.src_node_id), reason)
        order = state.get_valid_message_ins(metadata.reply_to_message_id)
        if order is None:
            return
        now = time.time()
        failure = Metadata(
            run_id=order["run_id"] % 2**64,
            message_id="",
            src_node_id=metadata.src_node_id,
            dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=metadata.reply_to_message_id,
            group_id=order["group_id"],
            message_type=order["message_type"],
            created_at=now,
            ttl=order["created_at"] + order["ttl"] - now,
        )
        message: Message = make_message(metadata=failure, error=Error(ErrorCode.UNKNOWN, reason))
        message.metadata.__dict__["_message_id"] = message.object_id
        if state.store_message_res(message) is not None:
            state._store_generated_message(message)

    @staticmethod
    def _refused(state: Any, node: int, reason: str) -> Exception:
        from fastapi import HTTPException

        _log.warning("what %s pushes is refused: %s", _name(state, node), reason)
        return HTTPException(403, reason)


def check_sender(request: PushMessagesRequest) -> None:
    """Refuse anything but one reply, from the node that has signed the request, to the coordinator.

    Raises:
        Forged: it is not.
    """
    messages, trees = len(request.messages_list), len(request.message_object_trees)
    if (messages, trees) != (1, 1):
        raise Forged(f"it pushes {messages} messages with {trees} lists of objects; one with one is allowed")
    metadata, node = request.messages_list[0].metadata, request.node.node_id
    if metadata.src_node_id != node:
        raise Forged(f"it sends in the name of node {metadata.src_node_id}, and is node {node}")
    if metadata.dst_node_id != SUPERLINK_NODE_ID:
        raise Forged(f"it sends to node {metadata.dst_node_id}; a hospital may reply only to the coordinator")
    if not metadata.reply_to_message_id:
        raise Forged("it is a request; a hospital may only reply")
    if metadata.message_id != request.message_object_trees[0].object_id:
        raise Forged("its list of objects belongs to another message")


def check_reply(request: PushMessagesRequest, most_objects: int, now: float) -> None:
    """Refuse a reply whose times are not valid, or whose list of objects is too long.

    Args:
        request: with one message.
        most_objects: how many there may be.
        now: seconds since 1970.

    Raises:
        Unfit: it is refused.
    """
    metadata = request.messages_list[0].metadata
    if not abs(metadata.created_at - now) <= _DAY:  # NaN fails this comparison, too
        raise Unfit(f"its reply says that it was made at the time {metadata.created_at:g}, which is not today")
    if not 0 < metadata.ttl < math.inf:
        raise Unfit(f"its reply says that it is valid for {metadata.ttl:g} s")
    worked = list(request.clientapp_runtime_list)
    if len(worked) > 1 or not all(abs(seconds) <= _LONGEST_WORK for seconds in worked):
        raise Unfit(f"its reply says that it took {', '.join(f'{seconds:g}' for seconds in worked[:3])} s")
    for number, _ in enumerate(_objects(request.message_object_trees[0]), 1):
        if number > most_objects:
            raise Unfit(f"its reply lists more than {most_objects} objects")


def _objects(tree: ObjectTree) -> Iterator[ObjectTree]:
    left = [tree]
    while left:
        yield (one := left.pop())
        left.extend(one.children)


def _name(state: Any, node: int) -> str:
    """The name under which the node was registered."""
    known = state.get_node_info(node_ids=[node])
    return printable(known[0].name, 100) if known and known[0].name else f"node {node}"


if __name__ == "__main__":
    main()
