"""Which secure sums a hospital has opened. It opens each update in one sum only, and one sum a round.

The difference of two sums could be a single update.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.lines import append, locked
from fedpolyp.privacy.secure_sum import Terms

OPENINGS = "openings.jsonl"


@dataclass(frozen=True)
class Opened:
    """A sum that was opened, as a line of the file has it."""

    run: str
    round: int
    sum: str  # digest of its terms
    masked: str  # digest of the update that the hospital masked, without its weight
    asked: str  # digest of what decides the update: the weights that were sent, the seed, the round and the settings
    survivors: tuple[str, ...]  # sorted

    @classmethod
    def of(cls, terms: Terms, update: bytes, asked: bytes, survivors: Collection[str]) -> Self:
        """The sum of `terms`, opened for `survivors`."""
        digest = terms.digest.hex()
        return cls(terms.run, terms.round, digest, update.hex(), asked.hex(), tuple(sorted(survivors)))

    def refuse_beside(self, other: "Opened") -> None:
        """Refuse to open this sum if `other` was opened, and is another sum of the same round or update.

        Raises:
            Refusal: it is.
        """
        if self == other:
            return
        if (self.run, self.round) == (other.run, other.round):
            if (self.sum, self.masked) == (other.sum, other.masked):
                raise Refusal(
                    f"in round {self.round} this hospital was told of other survivors, and opens only one sum"
                )
            raise Refusal(f"in round {self.round} this hospital has opened another sum, and opens only one")
        if self.run == other.run and self.masked == other.masked:
            raise Refusal(
                f"in round {self.round} its update is bit for bit that of round {other.round}, and this hospital opens "
                "a sum with each update only once: its training changes nothing; give a larger --learning-rate, or "
                "leave weights that can learn"
            )
        if self.masked == other.masked or self.asked == other.asked:
            raise Refusal(
                "this hospital has opened a sum with the same update in another run or round, and opens only one: give "
                "another --seed"
            )


@dataclass(frozen=True)
class Openings:
    """The file of opened sums: one JSON line each, on disk before the opening leaves.

    At a site there is one file for all runs: a second run with the same seed and weights has the same updates.
    """

    path: Path

    def refuse_known(self, coming: Opened) -> None:
        """Refuse an update that is in an opened sum of another run or round: the run would lose each of its rounds.

        A second sum of the same round is refused when it is to be opened: this costs the round, and the run goes on.

        Raises:
            Refusal: it is.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        if not self.path.exists():
            return
        with locked(self.path) as stream:
            for other in self._read(stream):
                if (coming.run, coming.round) != (other.run, other.round):
                    coming.refuse_beside(other)

    def note(self, opened: Opened) -> None:
        """Record that a sum is opened; a repeated opening has its line already.

        Raises:
            Refusal: another sum was opened in this round, or with this update.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        with locked(self.path) as stream:
            known = False
            for other in self._read(stream):
                opened.refuse_beside(other)
                known |= opened == other
            if not known:
                append(stream, asdict(opened))

    def _read(self, stream: BinaryIO) -> Iterator[Opened]:
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            try:
                plain: dict[str, Any] = json.loads(line)
                if not line.endswith(b"\n"):
                    raise ValueError
                yield Opened(**plain | {"survivors": tuple(plain["survivors"])})
            except (ValueError, KeyError, TypeError, RecursionError):
                raise FedpolypError(
                    f"line {number} of {self.path} is damaged, so it is not known which sums have been opened: "
                    "correct it from a copy (if it is half of the last line, after a power cut, its opening never "
                    "left: remove it)"
                ) from None
