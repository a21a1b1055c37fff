"""Which sums a hospital has opened: one in a round, ever, for the difference of two could be a single update."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.lines import append, locked
from fedpolyp.privacy.secure_sum import Terms


@dataclass(frozen=True)
class Openings:
    """The file of sums that were opened: one JSON line each, on disk before the opening leaves."""

    path: Path

    def note(self, terms: Terms, what: bytes, survivors: Collection[str]) -> None:
        """Write down that the sum of `terms` is opened for `survivors`; a repeated one is written down already.

        Args:
            terms: of the sum.
            what: by which this hospital knows what it masked.
            survivors: as they are named.

        Raises:
            Refusal: another was opened in this round.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        entry = {
            "run": terms.run,
            "round": terms.round,
            "sum": terms.digest.hex(),
            "masked": what.hex(),
            "survivors": sorted(survivors),
        }
        with locked(self.path) as stream:
            known = self._of(stream, terms)
            if known is None:
                append(stream, entry)
            elif known["sum"] != entry["sum"] or known["masked"] != entry["masked"]:
                raise Refusal(f"in round {terms.round} this hospital has opened another sum, and opens one alone")
            elif known["survivors"] != entry["survivors"]:
                raise Refusal(
                    f"in round {terms.round} this hospital was told of other survivors, and opens one sum alone"
                )

    def _of(self, stream: BinaryIO, terms: Terms) -> dict[str, Any] | None:
        """What was opened in the round of `terms`."""
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            try:
                entry: dict[str, Any] = json.loads(line)
                place = entry["run"], entry["round"]
                if not (line.endswith(b"\n") and {"sum", "masked", "survivors"} <= entry.keys()):
                    raise ValueError
            except (ValueError, KeyError, TypeError, RecursionError):
                raise FedpolypError(
                    f"line {number} of {self.path} is damaged, so nobody knows which sums have been opened: correct it "
                    "from a copy (if it is half of the last line, after a power cut, its opening never left: remove it)"
                ) from None
            if place == (terms.run, terms.round):
                return entry
        return None
