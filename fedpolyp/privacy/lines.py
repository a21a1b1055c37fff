"""A file of JSON lines that a hospital relies on: each is on disk before what it tells of leaves."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fedpolyp.files import append_line


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
    append_line(stream.fileno(), json.dumps(entry).encode() + b"\n")
