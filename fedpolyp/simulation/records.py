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
# The only array of a record, or its first piece: Flower's own packing copies an array twice on each side.
_PACKED = "packed"
# Bytes that are sent in one request. Flower gives each request 3 minutes, and repeats one whose link broke.
_PIECE = 4 * 1024**2
_PIECES = 4096  # of a record at most


def to_record(arrays: Arrays, bfloat16: bool = False) -> ArrayRecord:
    """Named arrays as a Flower record: packed into one, because Flower sends each array in its own request."""
    return _in_pieces(pack(arrays, bfloat16))


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays from `to_record`'s record; they share its memory and cannot be written to.

    Raises:
        Malformed: it holds something else.
    """
    return unpack(_whole(record))


def to_content(request: Request, sent: Mapping[str, ArrayRecord]) -> RecordDict:
    """A message's content: the request, and what goes with it, by group."""
    return RecordDict({REQUEST: ConfigRecord(request.to_plain()), **sent})


def plain_request(content: RecordDict) -> Mapping[str, Any]:
    """The request in a message, as plain values; empty if there is none."""
    return content.config_records.get(REQUEST, {})


def to_reply(answer: Answer, process: int, bfloat16: bool = False) -> RecordDict:
    """A reply's content; `process` is the one that it comes from."""
    arrays = {group: to_record(arrays, bfloat16) for group, arrays in answer.sent.items()}
    return RecordDict({**arrays, SAID: MetricRecord({**answer.said, "process": process})})


@dataclass(frozen=True)
class RecordContent:
    """The content of a reply; see `fedpolyp.exchange.replies.Content`."""

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
    """The bytes from which `_in_pieces` made `record`; not copied if it has one piece.

    Raises:
        Malformed: it is no such record.
    """
    pieces = list(record.values()) if len(record) <= _PIECES else []
    if not pieces or list(record) != _piece_names(len(pieces)) or any(piece.stype != _PACKED for piece in pieces):
        raise Malformed(f"a record of packed arrays holds '{_PACKED}' and its pieces alone; got {len(record)} arrays")
    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
