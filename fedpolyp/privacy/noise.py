"""Noise and draws that only the holder of a hospital's secret can compute, the same for the same request.

The coordinator knows the experiment's seed, so it could subtract noise that came from this seed. The key of the stream
is therefore derived from a secret that stays at the hospital and from a digest of the request, the weights and the
exact sum. A repeated request gets the same noise, so its answers reveal no more than one of them. Any other request,
weights or sum gets noise of its own.

Normal numbers are computed from the stream by Box and Muller's method in float64, from 53 bits each, and reach 8.6
standard deviations. Like all floating-point numbers they are not exactly normal: epsilon does not include what the
last bits of a sum reveal (Mironov, CCS 2012).
"""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedpolyp.errors import UsageError
from fedpolyp.files import open_regular, replacing
from fedpolyp.privacy.lines import locked

SECRET_BYTES = 32
_PURPOSE = b"fedpolyp privacy noise 1 "


class NoiseStream:
    """Numbers that depend only on `secret` and the digest `what`, and look random to anybody without `secret`."""

    def __init__(self, secret: bytes, what: bytes) -> None:
        key = HKDF(SHA256(), 32, salt=None, info=_PURPOSE + what).derive(secret)
        # The key is used only for this stream, so the counter may begin at zero.
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def normal(self, count: int) -> NDArray[np.float64]:
        """The next `count` standard normal numbers."""
        pairs = (count + 1) // 2
        words = np.frombuffer(self._encryptor.update(bytes(16 * pairs)), "<u8").reshape(2, pairs)
        first, second = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # in [0, 1)
        radius = np.sqrt(-2 * np.log1p(-first))
        return np.concatenate([radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)])[:count]

    def hits(self, count: int, probability: float) -> NDArray[np.bool_]:
        """The next `count` draws, (count,): each is true with this probability, to 2^-53, and never with more."""
        words = np.frombuffer(self._encryptor.update(bytes(8 * count)), "<u8") >> np.uint64(11)
        return np.asarray(words < np.uint64(math.floor(probability * 2.0**53)))


def site_secret(path: Path) -> bytes:
    """The secret of a site, in a file that only its owner can read; it is made when it is first needed.

    All processes get the same one, also those that need it first at the same time.

    Raises:
        UsageError: the file exists and does not hold a secret.
    """
    if not path.exists():
        with locked(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                with replacing(path, 0o600) as stream:
                    stream.write(os.urandom(SECRET_BYTES))
    with open_regular(path) as stream:
        secret, size = stream.read(SECRET_BYTES), os.fstat(stream.fileno()).st_size
    if size != SECRET_BYTES:
        raise UsageError(
            f"{path} is damaged: a secret has {SECRET_BYTES} bytes, it has {size}; remove it, and a new one is made"
        )
    return secret


def simulated_secret(seed: int, hospital: str) -> bytes:
    """The secret of a hospital in a simulation: it is derived from the seed, so it is not really secret."""
    return hashlib.sha256(f"fedpolyp simulated secret {seed} {hospital}".encode()).digest()
