"""What a hospital has given away, over all runs: one JSON line for each noisy sum that left it."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.accounting import epsilon_of, mu_of
from fedpolyp.privacy.lines import append, locked

_SLACK = 1e-6  # of the limit: a plan that needs all of it is allowed


@dataclass(frozen=True)
class Limit:
    """How much of its privacy a hospital gives away in all runs together."""

    epsilon: float
    delta: float

    def refuse(self, sigmas: list[float]) -> None:
        """Refuse sums with noise `sigmas` that are together beyond it.

        Raises:
            Refusal: they are.
        """
        if (epsilon := epsilon_of(mu_of(sigmas), self.delta)) > self.epsilon * (1 + _SLACK):
            raise Refusal(
                f"this site gives away epsilon {self.epsilon:g} at delta {self.delta:g} in all runs together; with "
                f"this order it would be {epsilon:.2f}"
            )


@dataclass(frozen=True)
class Ledger:
    """The file of sums that have left, each by its digest, with its noise.

    A line is on disk before its answer leaves; an answer that is given again has its line already.
    """

    path: Path

    def spend(
        self, digest: str, sigma: float, run: str, round: int, limit: Limit | None = None, sharers: int = 1
    ) -> list[float]:
        """Count the sum known by `digest`, with noise `sigma`, unless it is counted; the noise of all that are.

        `sharers` is how many hospitals make that noise together.

        Raises:
            Refusal: it would go beyond `limit`; nothing is counted.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        with locked(self.path) as stream:
            known = self._read(stream)
            if digest not in known:
                if limit is not None:
                    limit.refuse([*known.values(), sigma])
                time = datetime.now(UTC).isoformat(timespec="seconds")
                entry = {"time": time, "run": run, "round": round, "sigma": sigma, "sum": digest}
                entry |= {"sharers": sharers} if sharers > 1 else {}
                append(stream, entry)
                known[digest] = sigma
        return list(known.values())

    def sigmas(self) -> list[float]:
        """The noise of each sum that is counted.

        Raises:
            FedpolypError: the file is damaged.
        """
        if not self.path.exists():
            return []
        with locked(self.path) as stream:
            return list(self._read(stream).values())

    def _read(self, stream: BinaryIO) -> dict[str, float]:
        stream.seek(0)
        known: dict[str, float] = {}
        for number, line in enumerate(stream, 1):
            try:
                entry = json.loads(line)
                digest, sigma = entry["sum"], entry["sigma"]
                if not (line.endswith(b"\n") and isinstance(digest, str) and isinstance(sigma, float)):
                    raise ValueError
                if not (math.isfinite(sigma) and sigma > 0):
                    raise ValueError
            except (ValueError, KeyError, TypeError, RecursionError):
                raise FedpolypError(
                    f"line {number} of {self.path} is damaged, so nobody knows what has been given away: correct it "
                    "from a copy (if it is half of the last line, after a power cut, its answer never left: remove it)"
                ) from None
            known[digest] = sigma
        return known
