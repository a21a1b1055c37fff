"""A hospital's means of differential privacy: a secret for noise, a ledger, and the number of units it declares."""

import hashlib
import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import Noise, epsilon_of_all
from fedpolyp.privacy.ledger import UNSAID, Ledger, Limit
from fedpolyp.privacy.noise import NoiseStream, simulated_secret

LEDGER, SECRET = "privacy.jsonl", "privacy.key"


@dataclass(frozen=True)
class Keeper:
    """Adds noise to sums before they leave the hospital, and records each in the ledger."""

    secret: bytes
    ledger: Ledger
    units: int | None  # that the hospital declares, since the exact number would reveal one more; None: the exact one
    limit: Limit | None = None
    test_units: int | None = None  # that it declares for its score; None: none, or the exact one where `units` is

    @classmethod
    def simulated(cls, seed: int, hospital: str, folder: Path) -> "Keeper":
        """For a hospital in a simulation: its number of images is known, and its secret is derived from the seed."""
        return cls(simulated_secret(seed, hospital), Ledger(folder / LEDGER), None)

    def drawn(self, units: int, rate: float, order: Iterable[bytes]) -> list[int]:
        """Which of the hospital's `units` are in a sum, ascending: each with probability `rate`, independently.

        The same `order` gives the same units. It must name the images, and be that of the sum's noise, too: sums whose
        units were drawn together would count as one, and here each counts by itself.
        """
        stream = NoiseStream(self.secret, self._draw(rate, order))
        return [int(unit) for unit in np.flatnonzero(stream.hits(units, rate))]

    def noisy(
        self,
        total: Arrays,
        scale: float,
        noise: Noise,
        order: Iterable[bytes],
        run: str,
        round: int,
        sharers: int = 1,
        what: str = "",
        unit: str = UNSAID,
    ) -> Arrays:
        """`total` plus Gaussian noise of standard deviation `noise.sigma * scale` on each number, in float64.

        It is in the ledger when this returns. With `sharers` the hospital adds only a share: the noise of this many
        hospitals together has that size, and nobody may see the sum of fewer.

        Args:
            total: a sum to which no unit has added a vector longer than `scale`.
            scale: this length.
            noise: the noise in units of `scale`, and the probability with which each unit is in the sum.
            order: the request and its weights, see `order_of`; with drawn units also the images.
            run: the run, for readers of the ledger.
            round: the round, likewise.
            sharers: the number of hospitals that make the noise together.
            what: what the sum is of, if not of a step of training; likewise for readers.
            unit: what it protects; the ledger's sums all protect the same.

        Raises:
            Refusal: it would exceed the limit, or others in the ledger protect another unit; nothing is recorded.
            DrawnBefore: another sum in the ledger has these drawn units, see `drawn`; nothing is recorded.
            FedpolypError: the ledger is damaged.
        """
        order = [*order]
        drawn = f" {noise.rate!r}" if noise.rate < 1 else ""
        sizes = f"{scale!r} {noise.sigma!r} {sharers}{drawn}".encode()
        # With another secret the same sum has other noise, so it counts again.
        digest = self._digest((*order, sizes, *_bytes_of(total)))
        draw = self._draw(noise.rate, order).hex() if noise.rate < 1 else ""
        self.ledger.spend(digest.hex(), noise, run, round, self.limit, sharers, what, unit, draw)
        stream, own = NoiseStream(self.secret, digest), noise.sigma / math.sqrt(sharers)
        return {
            name: array + own * scale * stream.normal(array.size).reshape(array.shape) for name, array in total.items()
        }

    def spent(self, delta: float) -> float:
        """The epsilon at `delta` of everything that has left the hospital, in all runs."""
        return epsilon_of_all(self.ledger.sums(), delta)

    def _draw(self, rate: float, order: Iterable[bytes]) -> bytes:
        return self._digest([*order, f"draws {rate!r}".encode()])

    def _digest(self, parts: Iterable[bytes]) -> bytes:
        digest = hmac.new(self.secret, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()


def order_of(said: str, weights: Arrays) -> Iterable[bytes]:
    """A request, with its text `said` and its weights, for `Keeper.noisy`."""
    yield said.encode()
    yield from _bytes_of(weights)


def _bytes_of(arrays: Arrays) -> Iterable[bytes]:
    for name, array in arrays.items():
        yield f"{name} {array.dtype.str} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
