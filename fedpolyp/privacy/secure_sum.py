"""Masks that cancel in a sum: whoever adds up masked updates can read the sum, but no single update.

Each pair of hospitals shares a stream of random words; one of them adds it to its update, the other subtracts it. Each
hospital also adds a mask of its own. When the masked updates have arrived, the receiver names the survivors. Each
survivor then opens the sum: it sends its own mask plus the streams that it shares with lost hospitals, as one sum.
Subtracting these from the masked updates gives the sum of the survivors' updates, bit for bit.

The streams are AES-256 in counter mode. Their keys come by HKDF from an X25519 exchange between the two hospitals and
from the terms of the sum (the run, the round, the hospitals and their keys). This is the protocol of Bonawitz et al.
(CCS 2017) without its secret sharing, so if a survivor is lost before it opens, the sum cannot be read.

**What can a receiver learn that tells hospitals different things?** After a hospital x has opened, what is left of its
update is z = x + Σ ± p, over the hospitals that were named to it as survivors. Its own mask hides everything else,
because it opens with one number, not with two. If two hospitals were told differently about each other, their p
remains, and their z are noise. So only sums over hospitals that were all told of the same survivors can be read. This
is why a hospital opens only one sum a round, and never one of too few survivors.
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
    """Everything that identifies a sum. All masks depend on it, so no two sums have a mask in common."""

    run: str
    round: int
    keys: Mapping[str, bytes]  # public keys (32 bytes each) of the hospitals that take part, by name
    settings: bytes = b""  # digest of what all of them must have been asked alike: otherwise masks remain

    @cached_property
    def digest(self) -> bytes:
        """The digest that identifies the sum."""
        digest = hashlib.sha256()
        named = (part for name in sorted(self.keys) for part in self._of(name))
        for part in (self.run.encode(), b"%d" % self.round, self.settings, *named):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()

    def _of(self, name: str) -> tuple[bytes, bytes]:
        return name.encode(), self.keys[name]


@dataclass(frozen=True)
class Opening:
    """What a survivor opens a sum with: the seed of its own mask, or this mask plus the streams of lost hospitals.

    The mask and the streams are never sent separately: the streams that all survivors share with a lost hospital, and
    this hospital's own mask, would reveal its update.
    """

    seed: bytes = b""  # if no hospital is lost
    words: Words | None = None  # otherwise


@dataclass(frozen=True)
class Member:
    """A hospital that takes part in secure sums, with its private key."""

    name: str
    key: X25519PrivateKey

    @property
    def public(self) -> bytes:
        """Its public key."""
        return self.key.public_key().public_bytes_raw()

    @classmethod
    def simulated(cls, seed: int, name: str) -> "Member":
        """A hospital in a simulation, whose key is derived from the seed, so it is not a secret."""
        made = hashlib.sha256(f"fedpolyp simulated mask key {seed} {name}".encode()).digest()
        return cls(name, X25519PrivateKey.from_private_bytes(made))

    def masked(self, words: Words, terms: Terms) -> Words:
        """`words` (N,) plus all masks.

        Raises:
            Refusal: with these terms the masks would not hide `words`.
        """
        self.check(terms)
        total = words.copy()
        _add(total, self._own_seed(terms, digest_of(words)))
        for other in terms.keys:
            self._share(total, other, terms)
        return total

    def opening(self, terms: Terms, what: bytes, size: int, survivors: Collection[str], least: int) -> Opening:
        """What opens the sum of `terms` over `survivors`.

        Once this has left, the hospital must not open the sum for other survivors, nor any other sum of the round.

        Args:
            terms: the terms under which the words were masked.
            what: `digest_of` the words that were masked.
            size: the number of words.
            survivors: the hospitals whose masked updates have arrived, this one included.
            least: the smallest number of survivors.

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
        # It also depends on what is masked: if other words are masked under the same terms, their own mask differs.
        return HKDF(SHA256(), SEED_BYTES, None, _OWN + terms.digest + what).derive(self.key.private_bytes_raw())

    def _share(self, total: Words, other: str, terms: Terms) -> None:
        """Add to `total`, or subtract from it, the stream shared with `other`; there is none with itself."""
        if other == self.name:
            return
        try:
            secret = self.key.exchange(X25519PublicKey.from_public_bytes(terms.keys[other]))
        except ValueError:
            raise Refusal(f"the key of {printable(other)} in the sum is not a valid key") from None
        seed = HKDF(SHA256(), SEED_BYTES, None, _SHARED + terms.digest).derive(secret)
        _add(total, seed, takes_off=self.name > other)


def opened(total: Words, opening: Opening) -> None:
    """Subtract a survivor's `opening` from `total`, a sum of masked words, in place."""
    if opening.words is None:
        _add(total, opening.seed, takes_off=True)
    else:
        np.subtract(total, opening.words, out=total)


def digest_of(words: Words) -> bytes:
    """The digest that identifies masked words."""
    return hashlib.sha256(words.data).digest()


def _add(total: Words, seed: bytes, takes_off: bool = False) -> None:
    """Add the stream of `seed` to `total` modulo 2^64, or subtract it, in place."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()  # each seed is used for one stream only
    most = 8 * min(_BLOCK, len(total))
    zeros, stream = memoryview(bytes(most)), bytearray(most + 16)
    for start in range(0, len(total), _BLOCK):
        part = total[start : start + _BLOCK]
        encryptor.update_into(zeros[: part.nbytes], stream)
        mask = np.frombuffer(stream, "<u8", len(part))
        (np.subtract if takes_off else np.add)(part, mask, out=part)
