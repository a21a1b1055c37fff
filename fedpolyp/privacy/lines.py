"""Files of JSON lines that record what leaves a hospital: each line is on disk before its answer leaves."""

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
    """Open the file at `path` and lock it until the end; it is made if there is none, readable only by its owner.

    Raises:
        OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def append(stream: BinaryIO, entry: Mapping[str, Any]) -> None:
    """Append a line to a file opened by `locked`, whole or not at all.

    Raises:
        OSError: the disk refuses.
    """
    append_line(stream.fileno(), json.dumps(entry).encode() + b"\n")
