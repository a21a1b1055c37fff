"""What the coordinator asks of a hospital, by kind; the arrays travel beside it, by group."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, get_origin, get_type_hints

from fedpolyp.text import printable

# What a hospital may be asked to score.
SETS = ("val", "test")
# What a request may hold: characters of its texts, and the largest of its numbers, as a config would allow.
_LONGEST = {"hospital": 64, "config": 65_536, "score_set": 8, "run": 64, "run_folder": 4096, "store": 4096}
_LONGEST |= {"members": 65_536, "survivors": 65_536, "roster": 262_144}
_LARGEST = {"round": 100_000, "counted": 100_000, "keep_from": 100_000, "keep_best": 100_000, "learning_rate": 1.0}
_SAID = 100  # characters of what was received instead


@dataclass(frozen=True)
class Request:
    """What every kind of request says."""

    kind: ClassVar[str]

    hospital: str
    round: int
    config: str  # the experiment's config as JSON
    counted: int = 0  # the last round in which a training of this hospital counted; 0 before the first
    run: str = ""  # at a site only: names the run, under which the site keeps its private state
    run_folder: str = ""  # simulation only: where the partition and the hospitals' private state lie
    store: str = ""  # simulation only: the store of all images

    def to_plain(self) -> dict[str, Any]:
        """The request as texts, numbers and booleans by name."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_plain` made, and somebody sent.

        Raises:
            ValueError: a field is missing, unknown, of another type, too long, negative, too large or no number.
        """
        expected = {name: kind for name, kind in get_type_hints(cls).items() if get_origin(kind) is not ClassVar}
        if plain.keys() != expected.keys():
            few = len(plain) <= len(expected) + 1
            got = printable(sorted(plain) if few else f"{len(plain)} of them", 10 * _SAID)
            raise ValueError(f"a request to {cls.kind} has the fields {sorted(expected)}; got {got}")
        for name, kind in expected.items():
            value = plain[name]
            if type(value) is not kind:
                raise ValueError(f"the request's {name} must be of type {kind.__name__}; got {_short(value)}")
            if name in _LONGEST and len(value) > _LONGEST[name]:
                raise ValueError(f"the request's {name} may have {_LONGEST[name]} characters; got {len(value)}")
            if name in _LARGEST and not (math.isfinite(value) and 0 <= value <= _LARGEST[name]):
                raise ValueError(f"the request's {name} must be between 0 and {_LARGEST[name]}; got {_short(value)}")
        request = cls(**plain)
        request.check()
        return request

    def check(self) -> None:
        """Refuse values that do not go together.

        Raises:
            ValueError: they do not.
        """


@dataclass(frozen=True)
class Train(Request):
    """Train with what is sent, and send an update."""

    kind: ClassVar[str] = "train"

    learning_rate: float = 0.0
    keep_from: int = 0  # private state of trainings before this round is needed no more ...
    keep_best: int = 0  # ... but for that of this one, which the best model goes with
    members: str = ""  # with secure sums: the hospitals of the sum, see `named`
    roster: str = ""  # with secure sums, at a site only: the signed public keys, see `fedpolyp.sites.roster`

    def check(self) -> None:
        """See `Request`."""
        if self.counted >= max(1, self.round):
            raise ValueError(f"the request's counted must be before its round {self.round}; got {self.counted}")


@dataclass(frozen=True)
class Evaluate(Request):
    """Score the model that is sent on one of the hospital's own sets."""

    kind: ClassVar[str] = "evaluate"

    score_set: str = "val"
    distances: bool = False  # whether HD95 is measured, too, which takes longer than the model
    own: bool = False  # whether the hospital trains the model for itself before it scores it

    def check(self) -> None:
        """See `Request`."""
        if self.score_set not in SETS:
            raise ValueError(f"the request's score_set must be one of {SETS}; got {_short(self.score_set)}")


@dataclass(frozen=True)
class Unmask(Request):
    """Open a secure sum to which the hospital has sent a masked update; see `fedpolyp.privacy.secure_sum`."""

    kind: ClassVar[str] = "train.unmask"  # Flower allows its own kinds only, with a suffix

    members: str = ""  # the hospitals of the sum, see `named`
    survivors: str = ""  # those whose masked update has arrived
    roster: str = ""  # as in `Train`


KINDS: dict[str, type[Train | Evaluate | Unmask]] = {kind.kind: kind for kind in (Train, Unmask, Evaluate)}


def listed(hospitals: Iterable[str]) -> str:
    """Names of hospitals as one text, which `named` reads."""
    return "\n".join(hospitals)


def named(text: str) -> list[str]:
    """The names of hospitals in a text of `listed`."""
    return text.split("\n") if text else []


def _short(value: object) -> str:
    return printable(repr(value), _SAID)
