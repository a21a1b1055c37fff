"""What a hospital has given away, over all runs: one JSON line for each noisy sum that left it."""

import errno
import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.accounting import epsilon_of, mu_of

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

    def spend(self, digest: str, sigma: float, run: str, round: int, limit: Limit | None = None) -> list[float]:
        """Count the sum known by `digest`, with noise `sigma`, unless it is counted; the noise of all that are.

        Raises:
            Refusal: it would go beyond `limit`; nothing is counted.
            FedpolypError: the file is damaged.
            OSError: the disk refuses.
        """
        with self._locked() as stream:
            known = self._read(stream)
            if digest not in known:
                if limit is not None:
                    limit.refuse([*known.values(), sigma])
                time = datetime.now(UTC).isoformat(timespec="seconds")
                entry = {"time": time, "run": run, "round": round, "sigma": sigma, "sum": digest}
                self._append(stream, json.dumps(entry).encode() + b"\n")
                known[digest] = sigma
        return list(known.values())

    def sigmas(self) -> list[float]:
        """The noise of each sum that is counted.

        Raises:
            FedpolypError: the file is damaged.
        """
        if not self.path.exists():
            return []
        with self._locked() as stream:
            return list(self._read(stream).values())

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.path, flags, 0o600), "a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream

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

    def _append(self, stream: BinaryIO, line: bytes) -> None:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            os.fsync(descriptor)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(descriptor, size)
            raise
