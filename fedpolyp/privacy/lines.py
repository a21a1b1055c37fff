"""A file of JSON lines that a hospital relies on: each is on disk before what it tells of leaves."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file at `path`, made when there is none, for nobody else until the end; its owner alone can read it.

    Raises:
        OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def append(stream: BinaryIO, entry: Mapping[str, Any]) -> None:
    """Add a line to a file of `locked`, whole or not at all.

    Raises:
        OSError: the disk refuses.
    """
    descriptor, line = stream.fileno(), json.dumps(entry).encode() + b"\n"
    size = os.fstat(descriptor).st_size
    try:
        written = os.write(descriptor, line)
        os.fsync(descriptor)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise
