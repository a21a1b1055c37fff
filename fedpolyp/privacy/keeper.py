"""What a hospital keeps its promise with: a secret, a ledger, and the number of units that it declares."""

import hashlib
import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import epsilon_of, mu_of
from fedpolyp.privacy.ledger import Ledger, Limit
from fedpolyp.privacy.noise import NoiseStream, simulated_secret

LEDGER, SECRET = "privacy.jsonl", "privacy.key"


@dataclass(frozen=True)
class Keeper:
    """Lets noisy sums out, and counts them."""

    secret: bytes
    ledger: Ledger
    units: int | None  # that the hospital says it has, for the exact number would tell of one more; None: the exact one
    limit: Limit | None = None

    @classmethod
    def simulated(cls, seed: int, hospital: str, folder: Path) -> "Keeper":
        """For a hospital in a simulation: the number of its images is known, and its secret follows from the seed."""
        return cls(simulated_secret(seed, hospital), Ledger(folder / LEDGER), None)

    def noisy(
        self,
        total: Arrays,
        scale: float,
        sigma: float,
        order: Iterable[bytes],
        run: str,
        round: int,
        sharers: int = 1,
    ) -> Arrays:
        """`total` with Gaussian noise of `sigma * scale` on each number, in float64, once it is in the ledger.

        With `sharers` it is a share of that: so many hospitals' noise together has that size, and nobody may see less.

        Args:
            total: a sum of which no unit has added a vector longer than `scale`.
            scale: that length.
            sigma: the noise, in units of it.
            order: what was asked for, and with which weights.
            run: which run it is of, for whoever reads the ledger.
            round: likewise.
            sharers: how many hospitals make the noise together.

        Raises:
            Refusal: it would go beyond the limit; nothing is counted.
            FedpolypError: the ledger is damaged.
        """
        # With another secret the same sum has another noise, and counts anew.
        digest = hmac.new(self.secret, digestmod=hashlib.sha256)
        for part in (*order, f"{scale!r} {sigma!r} {sharers}".encode(), *_bytes_of(total)):
            digest.update(len(part).to_bytes(8, "little") + part)
        self.ledger.spend(digest.hexdigest(), sigma, run, round, self.limit, sharers)
        stream, own = NoiseStream(self.secret, digest.digest()), sigma / math.sqrt(sharers)
        return {
            name: array + own * scale * stream.normal(array.size).reshape(array.shape) for name, array in total.items()
        }

    def spent(self, delta: float) -> float:
        """The epsilon that goes with `delta` for all that has left, of all runs."""
        return epsilon_of(mu_of(self.ledger.sigmas()), delta)


def order_of(said: str, weights: Arrays) -> Iterable[bytes]:
    """What was asked for, `said` as text, and with which weights, for `Keeper.noisy`."""
    yield said.encode()
    yield from _bytes_of(weights)


def _bytes_of(arrays: Arrays) -> Iterable[bytes]:
    for name, array in arrays.items():
        yield f"{name} {array.dtype.str} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
