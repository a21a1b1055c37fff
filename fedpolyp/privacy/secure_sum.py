"""Masks that cancel in a sum, so that who adds it up reads the sum and no single part of it.

Each pair of hospitals shares a stream of random words that one of the two adds to its update and the other takes off,
and each hospital adds a mask of its own. When all masked updates have come, their receiver names the survivors, and
each survivor opens: it sends its own mask plus what it shared with those who are lost, as one sum. Less these, the
masked updates add up to the sum of the survivors' updates, bit for bit.

The streams are AES-256 in counter mode, keyed by HKDF of an X25519 exchange between the two and of all that the sum is
(run, round, who takes part with which key). As in Bonawitz et al. (CCS 2017), but without their shares of secrets, so
a survivor who is lost before it has opened takes the sum with it.

**What a receiver can learn who says other things to each hospital.** A hospital that opens once leaves
z = x + Σ ± p over the hospitals that it was told have survived; its own mask hides all else, for what it opens with is
one number, not two. Where two were not told of each other alike, the p of the two stays on, and their z are noise. So
all that can be read are sums over hospitals that were all told of the same survivors. That is why a hospital opens no
second time in a round, and never for fewer than a given number of survivors.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedpolyp.errors import Refusal
from fedpolyp.privacy.fixed_point import Words
from fedpolyp.text import printable

SEED_BYTES = 32
_OWN, _SHARED = b"fedpolyp own mask 1 ", b"fedpolyp shared mask 1 "
_BLOCK = 1 << 17  # words that are masked at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Terms:
    """What a sum is: all that its masks depend on, so that those of no other sum are like them."""

    run: str
    round: int
    keys: Mapping[str, bytes]  # of the hospitals that take part: their public keys (32 bytes each), by name

    @cached_property
    def digest(self) -> bytes:
        """By which the sum is known."""
        digest = hashlib.sha256()
        for part in (self.run.encode(), b"%d" % self.round, *(p for n in sorted(self.keys) for p in self._of(n))):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()

    def _of(self, name: str) -> tuple[bytes, bytes]:
        return name.encode(), self.keys[name]


@dataclass(frozen=True)
class Opening:
    """What a survivor takes off the sum: its own mask, by its seed, or that plus what it shared with the lost.

    The two never leave it as two: with what all others shared with a lost one, and that one's own mask, its update
    could be read.
    """

    seed: bytes = b""  # where nobody is lost
    words: Words | None = None  # where somebody is


@dataclass(frozen=True)
class Member:
    """A hospital that takes part in sums."""

    name: str
    key: X25519PrivateKey

    @property
    def public(self) -> bytes:
        """Its public key."""
        return self.key.public_key().public_bytes_raw()

    @classmethod
    def simulated(cls, seed: int, name: str) -> "Member":
        """That of a hospital in a simulation: its key follows from the seed, so it is no secret."""
        made = hashlib.sha256(f"fedpolyp simulated mask key {seed} {name}".encode()).digest()
        return cls(name, X25519PrivateKey.from_private_bytes(made))

    def masked(self, words: Words, terms: Terms) -> Words:
        """`words` (N,) with all masks on.

        Raises:
            Refusal: the terms are not such that they would hide it.
        """
        self.check(terms)
        total = words.copy()
        _add(total, self._own_seed(terms, digest_of(words)))
        for other in terms.keys:
            self._share(total, other, terms)
        return total

    def opening(self, terms: Terms, what: bytes, size: int, survivors: Collection[str], least: int) -> Opening:
        """What opens the sum over `survivors`, to whom this hospital sent what it masked under `terms`.

        Once it is given away, there must be none for other survivors, nor for anything else of that round.

        Args:
            terms: of the sum.
            what: `digest_of` the words that were masked.
            size: how many there were.
            survivors: those whose masked updates have come, this hospital among them.
            least: of them that there must be.

        Raises:
            Refusal: they are too few, named twice, or not in the sum.
        """
        self.check(terms)
        named = set(survivors)
        if len(named) < len(survivors):
            raise Refusal("a survivor of a sum is named twice")
        if strange := sorted(named - terms.keys.keys()):
            raise Refusal(f"{printable(strange[0])} is named as a survivor, and was not in the sum")
        if self.name not in named:
            raise Refusal("a hospital that is not named as a survivor opens nothing")
        if len(named) < least:
            raise Refusal(f"no sum of fewer than {least} hospitals is opened; {len(named)} are named as survivors")
        lost = [other for other in terms.keys if other not in named]
        seed = self._own_seed(terms, what)
        if not lost:
            return Opening(seed)
        words = np.zeros(size, np.uint64)
        _add(words, seed)
        for other in lost:
            self._share(words, other, terms)
        return Opening(words=words)

    def check(self, terms: Terms) -> None:
        """Refuse terms that would not hide this hospital's update.

        Raises:
            Refusal: this hospital's key in them is another, or two hospitals have the same.
        """
        if terms.keys.get(self.name) != self.public:
            raise Refusal(f"the key of {self.name} in the sum is not that of this hospital")
        if len(set(terms.keys.values())) < len(terms.keys):
            raise Refusal("two hospitals in the sum have the same key")

    def _own_seed(self, terms: Terms, what: bytes) -> bytes:
        # Of what is masked, too: when one sum is masked twice, no two updates share all their masks.
        return HKDF(SHA256(), SEED_BYTES, None, _OWN + terms.digest + what).derive(self.key.private_bytes_raw())

    def _share(self, total: Words, other: str, terms: Terms) -> None:
        """Put on `total` what this hospital shares with `other`; nothing with itself."""
        if other == self.name:
            return
        try:
            secret = self.key.exchange(X25519PublicKey.from_public_bytes(terms.keys[other]))
        except ValueError:
            raise Refusal(f"the key of {printable(other)} in the sum is not a valid key") from None
        seed = HKDF(SHA256(), SEED_BYTES, None, _SHARED + terms.digest).derive(secret)
        _add(total, seed, takes_off=self.name > other)


def opened(total: Words, opening: Opening) -> None:
    """Take what a survivor opened off `total`, a sum of masked words, in place."""
    if opening.words is None:
        _add(total, opening.seed, takes_off=True)
    else:
        np.subtract(total, opening.words, out=total)


def digest_of(words: Words) -> bytes:
    """By which a hospital knows what it masked."""
    return hashlib.sha256(words.data).digest()


def _add(total: Words, seed: bytes, takes_off: bool = False) -> None:
    """Add the stream of `seed` to `total` modulo 2^64, or take it off, in place."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()  # a seed is for one stream alone
    most = 8 * min(_BLOCK, len(total))
    zeros, stream = memoryview(bytes(most)), bytearray(most + 16)
    for start in range(0, len(total), _BLOCK):
        part = total[start : start + _BLOCK]
        encryptor.update_into(zeros[: part.nbytes], stream)
        mask = np.frombuffer(stream, "<u8", len(part))
        (np.subtract if takes_off else np.add)(part, mask, out=part)
