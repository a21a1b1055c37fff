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
_PACKED = "packed"


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

    The packed array is uint8: the length of the index (8 bytes, little-endian), the index (JSON: name, type, shape of
    each), then the bytes of all arrays.
    """
    index = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    parts = [len(index).to_bytes(8, "little"), index, *(array.tobytes() for array in arrays.values())]
    return ArrayRecord({_PACKED: Array(np.frombuffer(b"".join(parts), np.uint8))})


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of `to_record`'s record.

    Raises:
        ValueError: it holds something else.
    """
    if list(record) != [_PACKED]:
        raise ValueError(f"a record of packed arrays holds '{_PACKED}' alone; got {sorted(record)[:3]}")
    packed = record[_PACKED].numpy()
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise ValueError(f"packed arrays are bytes; got {packed.dtype} of shape {packed.shape}")
    start = 8 + int.from_bytes(packed[:8].tobytes(), "little")
    arrays: Arrays = {}
    try:
        for name, kind, shape in json.loads(packed[8:start].tobytes()):
            dtype = np.dtype(str(kind))
            if dtype.kind not in "fiub" or not all(type(side) is int and side >= 0 for side in shape):
                raise ValueError(f"array {name!r} of type {kind} and shape {shape}")
            end = start + dtype.itemsize * math.prod(shape)
            # A copy: a view into the middle of the bytes need not be aligned.
            arrays[str(name)] = packed[start:end].copy().view(dtype).reshape(shape)
            start = end
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the index of packed arrays cannot be read: {error}") from None
    if start != len(packed):
        raise ValueError(f"packed arrays of {len(packed)} bytes have an index of {start}")
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
