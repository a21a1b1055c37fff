"""Gaussian noise that nobody can foretell who lacks a hospital's secret, and that is the same when asked for again.

The coordinator knows the experiment's seed: noise that came from it, he could take off. So the stream's key is made of
a secret that stays at the hospital, and of a digest of what is answered. An order that is repeated has the same noise,
so that the answers to it tell no more than one; another order, other weights or another sum have noise of their own.

The normal numbers are made of the stream by Box and Muller in float64, from 53 bits each, and reach to 8.6 standard
deviations. Like all floating-point numbers they are not exactly normal: what the last bits of a sum give away
(Mironov, CCS 2012) is not in epsilon. The digest covers the exact sum, so that no two sums ever share a noise.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedpolyp.errors import UsageError
from fedpolyp.files import read_bytes

SECRET_BYTES = 32
_PURPOSE = b"fedpolyp privacy noise 1 "


class NoiseStream:
    """Numbers that look random to whoever lacks `secret`, and depend on nothing but it and the digest `what`."""

    def __init__(self, secret: bytes, what: bytes) -> None:
        key = HKDF(SHA256(), 32, salt=None, info=_PURPOSE + what).derive(secret)
        # The key is used for this stream alone, so the counter may begin at zero.
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def normal(self, count: int) -> NDArray[np.float64]:
        """The next `count` standard normal numbers."""
        pairs = (count + 1) // 2
        words = np.frombuffer(self._encryptor.update(bytes(16 * pairs)), "<u8").reshape(2, pairs)
        first, second = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # in [0, 1)
        radius = np.sqrt(-2 * np.log1p(-first))
        return np.concatenate([radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)])[:count]


def site_secret(path: Path) -> bytes:
    """The secret of a site, in a file that its owner alone can read; made when it is first asked for.

    Raises:
        UsageError: the file is there and holds no secret.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = read_bytes(path, SECRET_BYTES)
        if len(secret) != SECRET_BYTES:
            raise UsageError(
                f"{path} is damaged: a secret has {SECRET_BYTES} bytes, it has {len(secret)}; remove it, "
                "and a new one is made"
            ) from None
        return secret
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(os.urandom(SECRET_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
    return read_bytes(path, SECRET_BYTES)


def simulated_secret(seed: int, hospital: str) -> bytes:
    """What stands in for the secret of a hospital in a simulation: made of the seed, it is none."""
    return hashlib.sha256(f"fedpolyp simulated secret {seed} {hospital}".encode()).digest()
