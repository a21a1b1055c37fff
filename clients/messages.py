"""The messages a hospital understands: an order with weights in, weights or counts out."""

import math
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedpolyp.exchange.packing import Malformed, pack, unpack
from fedpolyp.model.arrays import Arrays, fault
from fedpolyp.sites.settings import Refusal
from fedpolyp.text import printable

# What a hospital may be asked to score.
SETS = ("val", "test")
# The one array of a record, or its first piece: Flower's own way of packing an array copies it twice on either side.
_PACKED = "packed"
# Bytes that travel in one request. Flower gives each 3 minutes, and begins one anew whose link broke.
_PIECE = 4 * 1024**2
_PIECES = 4096  # of a record at most
# What an order may hold: characters of its texts, and the largest of its numbers, as a config would allow.
_LONGEST = {"hospital": 64, "config": 65_536, "score_set": 8, "run": 64, "run_folder": 4096, "store": 4096}
_LARGEST = {"round": 100_000, "keep_state_from": 100_000, "learning_rate": 1.0}
_SAID = 100  # characters of what was received instead


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
            ValueError: a field is missing, unknown, of another type, too long, negative, too large or no number.
        """
        expected: dict[str, type] = get_type_hints(cls)
        if record.keys() != expected.keys():
            few = len(record) <= len(expected) + 1
            got = printable(sorted(record) if few else f"{len(record)} of them", 10 * _SAID)
            raise ValueError(f"an order has the fields {sorted(expected)}; got {got}")
        plain: dict[str, Any] = dict(record)
        for name, kind in expected.items():
            if type(value := plain[name]) is not kind:
                raise ValueError(f"the order's {name} must be of type {kind.__name__}; got {_short(value)}")
            if name in _LONGEST and len(plain[name]) > _LONGEST[name]:
                raise ValueError(f"the order's {name} may have {_LONGEST[name]} characters; got {len(plain[name])}")
            if name in _LARGEST and not (math.isfinite(plain[name]) and 0 <= plain[name] <= _LARGEST[name]):
                raise ValueError(f"the order's {name} must be between 0 and {_LARGEST[name]}; got {_short(value)}")
        if plain["score_set"] not in SETS:
            raise ValueError(f"the order's score_set must be one of {SETS}; got {_short(plain['score_set'])}")
        return cls(**plain)


def _short(value: object) -> str:
    return printable(repr(value), _SAID)


def to_record(arrays: Arrays) -> ArrayRecord:
    """Named arrays as Flower carries them: packed into one, for it sends each array in a request of its own."""
    return _in_pieces(pack(arrays))


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


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of `to_record`'s record, which they share the memory of: they cannot be written to.

    Raises:
        Malformed: it holds something else.
    """
    return unpack(_whole(record))


def arrays_of(content: RecordDict, name: str, like: Arrays) -> Arrays:
    """The arrays called `name` in a message's content, which must fit the model or optimizer that `like` is of.

    Raises:
        Refusal: they are not there, or do not fit.
    """
    if name not in content.array_records:
        raise Refusal(f"the message holds no {name}")
    try:
        arrays = from_record(content.array_records[name])
    except Malformed as error:
        raise Refusal(str(error)) from None
    if wrong := fault(arrays, like):
        raise Refusal(wrong)
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
