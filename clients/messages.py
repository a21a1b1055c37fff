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
# The one array of a record, and how it is packed: Flower's own way of packing an array copies it twice on either side.
_PACKED = "packed"
_ALIGNED = 8


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
    packed = b"".join(parts)
    return ArrayRecord({_PACKED: Array(dtype="uint8", shape=(len(packed),), stype=_PACKED, data=packed)})


def _filling(size: int) -> bytes:
    return bytes(-size % _ALIGNED)


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of `to_record`'s record, which they share the memory of: they cannot be written to.

    Raises:
        ValueError: it holds something else.
    """
    if list(record) != [_PACKED] or record[_PACKED].stype != _PACKED:
        raise ValueError(f"a record of packed arrays holds '{_PACKED}' alone; got {sorted(record)[:3]}")
    packed = record[_PACKED].data
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
