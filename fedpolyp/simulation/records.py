"""Requests, replies and arrays as Flower's records."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedpolyp.exchange.packing import Malformed, pack, unpack
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Request
from fedpolyp.model.arrays import Arrays

REQUEST, SAID = "request", "metrics"
# The one array of a record, or its first piece: Flower's own way of packing an array copies it twice on either side.
_PACKED = "packed"
# Bytes that travel in one request. Flower gives each 3 minutes, and begins one anew whose link broke.
_PIECE = 4 * 1024**2
_PIECES = 4096  # of a record at most


def to_record(arrays: Arrays, bfloat16: bool = False) -> ArrayRecord:
    """Named arrays as Flower carries them: packed into one, for it sends each array in a request of its own."""
    return _in_pieces(pack(arrays, bfloat16))


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of `to_record`'s record, which they share the memory of: they cannot be written to.

    Raises:
        Malformed: it holds something else.
    """
    return unpack(_whole(record))


def to_content(request: Request, sent: Mapping[str, ArrayRecord]) -> RecordDict:
    """A message's content: the request, and what goes with it, by group."""
    return RecordDict({REQUEST: ConfigRecord(request.to_plain()), **sent})


def plain_request(content: RecordDict) -> Mapping[str, Any]:
    """What a message says of its request; empty when it says nothing."""
    return content.config_records.get(REQUEST, {})


def to_reply(answer: Answer, process: int, bfloat16: bool = False) -> RecordDict:
    """A reply's content; `process` is the one that it comes from."""
    arrays = {group: to_record(arrays, bfloat16) for group, arrays in answer.sent.items()}
    return RecordDict({**arrays, SAID: MetricRecord({**answer.said, "process": process})})


@dataclass(frozen=True)
class RecordContent:
    """What a reply's content holds; see `fedpolyp.exchange.replies.Content`."""

    record: RecordDict

    @property
    def said(self) -> Mapping[str, Any]:
        """See `Content`."""
        return self.record.metric_records.get(SAID, MetricRecord())

    @property
    def groups(self) -> Collection[str]:
        """See `Content`."""
        return self.record.array_records.keys()

    def arrays(self, group: str) -> Arrays:
        """See `Content`."""
        return from_record(self.record.array_records[group]) if group in self.groups else {}


def _in_pieces(packed: bytes) -> ArrayRecord:
    pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
    return ArrayRecord(
        {
            name: Array(dtype="uint8", shape=(len(piece),), stype=_PACKED, data=piece)
            for name, piece in zip(_piece_names(len(pieces)), pieces, strict=True)
        }
    )


def _piece_names(count: int) -> list[str]:
    return [_PACKED, *(f"{_PACKED}-{number}" for number in range(1, count))]


def _whole(record: ArrayRecord) -> bytes:
    """The bytes that `_in_pieces` made `record` of; not copied where it is of one piece.

    Raises:
        Malformed: it is no such record.
    """
    pieces = list(record.values()) if len(record) <= _PIECES else []
    if not pieces or list(record) != _piece_names(len(pieces)) or any(piece.stype != _PACKED for piece in pieces):
        raise Malformed(f"a record of packed arrays holds '{_PACKED}' and its pieces alone; got {len(record)} arrays")
    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
