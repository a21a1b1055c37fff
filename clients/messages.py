"""The messages a hospital understands: an order with weights in, weights or counts out."""

from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedpolyp.model.arrays import Arrays

# What a hospital may be asked to score.
SETS = ("val", "test")


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
    """Named arrays as Flower carries them."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays out of Flower's record."""
    return {name: array.numpy() for name, array in record.items()}


def order_of(content: RecordDict) -> Order:
    """The order in a message's content."""
    return Order.from_record(content.config_records["order"])


def content_of(order: Order, arrays: ArrayRecord, optimizer: ArrayRecord | None = None) -> RecordDict:
    """A message's content: the order, the global weights and, where they are averaged, Adam's moments."""
    records: dict[str, Any] = {"order": order.to_record(), "arrays": arrays}
    return RecordDict(records if optimizer is None else records | {"optimizer": optimizer})
