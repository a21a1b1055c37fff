"""The messages a hospital understands: an order with weights in, weights or counts out."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedpolyp.model.arrays import Arrays
from fedpolyp.sites.settings import Refusal

# What a hospital may be asked to score.
SETS = ("val", "test")
# The one array of a record, or its first piece: Flower's own way of packing an array copies it twice on either side.
_PACKED = "packed"
_ALIGNED = 8
# Bytes that travel in one request. Flower gives each 3 minutes, and begins one anew whose link broke.
_PIECE = 4 * 1024**2
_PIECES = 4096  # of a record at most


@dataclass(frozen=True)
class Order:
    """What the coordinator asks of a hospital; the weights travel beside it."""

    hospital: str
    round: int
    config: str  # the experiment's config as JSON
    learning_rate: float = 0.0
    score_set: str = "val"  # which of the hospital's sets an evaluation scores
    distances: bool = False  # whether it also measures HD95, which takes longer than the model
    keep_state_from: int = 0  # no checkpoint needs private state of rounds before this one
    run: str = ""  # at a site only: names the run, under which the site keeps its private state
    run_folder: str = ""  # simulation only: where the deal and the hospitals' private state lie
    store: str = ""  # simulation only: the store of all images

    def to_record(self) -> ConfigRecord:
        """The order as Flower carries it."""
        return ConfigRecord(asdict(self))

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "Order":
        """Read `to_record`'s record back.

        Raises:
            ValueError: a field is missing, unknown, of another type or negative.
        """
        plain: dict[str, Any] = dict(record)
        expected: dict[str, type] = get_type_hints(cls)
        if plain.keys() != expected.keys():
            raise ValueError(f"an order has the fields {sorted(expected)}; got {sorted(plain)}")
        for name, kind in expected.items():
            if type(plain[name]) is not kind:
                raise ValueError(f"the order's {name} must be of type {kind.__name__}; got {plain[name]!r}")
            if isinstance(plain[name], (int, float)) and plain[name] < 0:
                raise ValueError(f"the order's {name} must not be negative; got {plain[name]!r}")
        if plain["score_set"] not in SETS:
            raise ValueError(f"the order's score_set must be one of {SETS}; got {plain['score_set']!r}")
        return cls(**plain)


def to_record(arrays: Arrays) -> ArrayRecord:
    """Named arrays as Flower carries them: packed into one, for it sends each array in a request of its own.

    The packed bytes are the length of the index (8 bytes, little-endian), the index (JSON: name, type, shape of each),
    then the bytes of all arrays, each part filled up to a multiple of 8.
    """
    index = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    parts: list[bytes | memoryview] = [len(index).to_bytes(8, "little"), index, _filling(len(index))]
    for array in arrays.values():
        parts += [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, _filling(array.nbytes)]
    return _in_pieces(b"".join(parts))


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
        ValueError: it is no such record.
    """
    pieces = list(record.values()) if len(record) <= _PIECES else []
    if not pieces or list(record) != _piece_names(len(pieces)) or any(piece.stype != _PACKED for piece in pieces):
        raise ValueError(f"a record of packed arrays holds '{_PACKED}' and its pieces alone; got {len(record)} arrays")
    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)


def _filling(size: int) -> bytes:
    return bytes(-size % _ALIGNED)


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of `to_record`'s record, which they share the memory of: they cannot be written to.

    Raises:
        ValueError: it holds something else.
    """
    packed = _whole(record)
    end = 8 + int.from_bytes(packed[:8], "little")
    arrays: Arrays = {}
    try:
        for name, kind, shape in json.loads(packed[8:end]):
            dtype = np.dtype(str(kind))
            if dtype.kind not in "fiub" or not all(type(side) is int and side >= 0 for side in shape):
                raise ValueError(f"array {name!r} of type {kind} and shape {shape}")
            start, count = end + -end % _ALIGNED, math.prod(shape)
            arrays[str(name)] = np.frombuffer(packed, dtype, count, start if count else 0).reshape(shape)
            end = start + dtype.itemsize * count
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"the index of packed arrays cannot be read: {error}") from None
    if end + -end % _ALIGNED != len(packed):
        raise ValueError(f"packed arrays of {len(packed)} bytes have an index of {end}")
    return arrays


def order_of(content: RecordDict) -> Order:
    """The order in a message's content.

    Raises:
        Refusal: there is none, or it is not as it should be.
    """
    if "order" not in content.config_records:
        raise Refusal("the message holds no order")
    try:
        return Order.from_record(content.config_records["order"])
    except ValueError as error:
        raise Refusal(str(error)) from None


def content_of(order: Order, arrays: ArrayRecord, optimizer: ArrayRecord | None = None) -> RecordDict:
    """A message's content: the order, the global weights and, where they are averaged, Adam's moments."""
    records: dict[str, Any] = {"order": order.to_record(), "arrays": arrays}
    return RecordDict(records if optimizer is None else records | {"optimizer": optimizer})
