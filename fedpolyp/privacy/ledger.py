"""The ledger of a hospital's privacy over all runs: one JSON line for each noisy sum that left it."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fedpolyp.config import UNITS, Unit
from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.accounting import Noise, epsilon_of_all
from fedpolyp.privacy.lines import append, locked

UNSAID: Unit = "group"  # what is meant where a line names no unit
_SLACK = 1e-6  # of the limit: a plan that needs all of it is allowed


class DrawnBefore(Exception):
    """The units of a sum are those of another one: together both would protect less than their lines say."""


@dataclass(frozen=True)
class Limit:
    """The most epsilon that a hospital spends in all runs together."""

    epsilon: float
    delta: float

    def refuse(self, sums: list[Noise]) -> None:
        """Refuse if `sums` together exceed the limit.

        Raises:
            Refusal: they do.
            UsageError: units were drawn for some, and the package dp-accounting is not installed.
        """
        if (epsilon := epsilon_of_all(sums, self.delta)) > self.epsilon * (1 + _SLACK):
            raise Refusal(
                f"this site spends at most epsilon {self.epsilon:g} at delta {self.delta:g} in all runs together; with "
                f"this request it would be {epsilon:.2f}"
            )


@dataclass(frozen=True)
class Ledger:
    """The file of sums that have left the hospital, each with its digest and its noise.

    A line is on disk before its answer leaves. A repeated answer has its line already.
    """

    path: Path

    def spend(
        self,
        digest: str,
        noise: Noise,
        run: str,
        round: int,
        limit: Limit | None = None,
        sharers: int = 1,
        what: str = "",
        unit: str = UNSAID,
        draw: str = "",
    ) -> list[Noise]:
        """Record the sum with this `digest` and `noise` unless it is recorded; returns the noise of all sums.

        `sharers` is the number of hospitals that make this noise together. `what` it is of, for readers of the file; ''
        for a step of training. `unit` is what the sum protects (`privacy.unit`): one epsilon for all sums holds only if
        all protect the same. `draw` identifies the draw of its units, if they were drawn: each is used for one sum.

        Raises:
            ValueError: `noise` is none; nothing is recorded.
            Refusal: it would exceed `limit`, or recorded sums protect another unit; nothing is recorded.
            DrawnBefore: another sum has the same draw; nothing is recorded.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        if not (math.isfinite(noise.sigma) and noise.sigma > 0 and 0 < noise.rate <= 1):
            raise ValueError(f"a sum needs noise before it leaves; got sigma {noise.sigma} and rate {noise.rate}")
        with locked(self.path) as stream:
            known, units, draws = self._read(stream)
            if digest not in known:
                if other := sorted(units - {unit}):
                    raise Refusal(
                        f"this hospital's ledger has sums that protect each {other[0]}, and the request protects each "
                        f"{unit}: no epsilon would hold for all of them"
                    )
                if draw and draw in draws:
                    raise DrawnBefore
                if limit is not None:
                    limit.refuse([*known.values(), noise])
                time = datetime.now(UTC).isoformat(timespec="seconds")
                entry = {"time": time, "run": run, "round": round, "sigma": noise.sigma, "sum": digest}
                entry |= {"rate": noise.rate} if noise.rate < 1 else {}
                entry |= {"sharers": sharers} if sharers > 1 else {}
                entry |= {"what": what} if what else {}
                entry |= {"unit": unit} if unit != UNSAID else {}
                entry |= {"draw": draw} if draw else {}
                append(stream, entry)
                known[digest] = noise
        return list(known.values())

    def sums(self) -> list[Noise]:
        """The noise of each recorded sum.

        Raises:
            FedpolypError: the file is damaged.
        """
        if not self.path.exists():
            return []
        with locked(self.path) as stream:
            return list(self._read(stream)[0].values())

    def _read(self, stream: BinaryIO) -> tuple[dict[str, Noise], set[str], set[str]]:
        """The noise of each recorded sum by digest, the units that they protect, and the draws that they have."""
        stream.seek(0)
        known: dict[str, Noise] = {}
        units: set[str] = set()
        draws: set[str] = set()
        for number, line in enumerate(stream, 1):
            try:
                entry = json.loads(line)
                digest, sigma, rate = entry["sum"], entry["sigma"], entry.get("rate", 1.0)
                if not (line.endswith(b"\n") and isinstance(digest, str) and isinstance(sigma, float)):
                    raise ValueError
                if not (math.isfinite(sigma) and sigma > 0 and isinstance(rate, float) and 0 < rate <= 1):
                    raise ValueError
                if not isinstance(draw := entry.get("draw", ""), str):
                    raise ValueError
                units.add(UNITS[UNITS.index(entry.get("unit", UNSAID))])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise FedpolypError(
                    f"line {number} of {self.path} is damaged, so it is not known what has been spent: correct it "
                    "from a copy (if it is half of the last line, after a power cut, its answer never left: remove it)"
                ) from None
            known[digest] = Noise(sigma, rate)
            draws.add(draw)
        return known, units, draws
