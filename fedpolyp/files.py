"""Files that are either whole or absent, whatever happens to the process that writes them, and locks."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fedpolyp.errors import FedpolypError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends without an exception.

    The bytes are on disk before the name changes, so a reader finds the old file or the new one, never a part. Who may
    read it is as the process's umask says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8), whole or not at all."""
    with replacing(path) as stream:
        stream.write(text.encode())


@contextmanager
def sole(lock: Path, otherwise: str) -> Iterator[None]:
    """Keep every other process out of the block; the lock goes with the process that holds it.

    Raises:
        FedpolypError: another process is in it, which `otherwise` says.
    """
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FedpolypError(otherwise) from None
        yield
