"""The audit log: one JSON line for each thing a site was asked and each thing it sent, chained by hashes."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedpolyp.errors import FedpolypError

_START = "0" * 64  # what the first entry follows


@dataclass(frozen=True)
class Entry:
    """A line of the log, and what is wrong with it ('' for nothing)."""

    number: int  # of the line, from 1
    content: dict[str, Any]
    fault: str = ""


def append(log: Path, event: str, details: Mapping[str, Any]) -> str:
    """Add an entry; it is on disk when this returns. Returns its hash, which the next entry will name.

    Raises:
        OSError: the disk refuses.
        FedpolypError: the last line is not an entry, so that nothing can follow it.
    """
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        content = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **details,
            "previous": _last_hash(descriptor, size, log),
        }
        content["hash"] = _hash(content)
        line = json.dumps(content).encode() + b"\n"
        try:
            written = os.write(descriptor, line)
            os.fsync(descriptor)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(descriptor, size)  # half a line would bar every later entry
            raise
    finally:
        os.close(descriptor)
    return str(content["hash"])


def read(log: Path) -> Iterator[Entry]:
    """The entries of `log` in their order, each with its fault, if what it says or follows was changed later.

    What was cut off at the end cannot be seen in the log itself: compare the last hash with one noted earlier.

    Raises:
        FedpolypError: it cannot be read.
    """
    previous = _START
    try:
        lines = log.read_bytes().splitlines()
    except OSError as error:
        raise FedpolypError(f"cannot read the audit log {log}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            said, follows = str(content["hash"]), content["previous"]
        except (ValueError, KeyError, TypeError):
            yield Entry(number, {}, "not an entry")
            continue
        if _hash(content) != said:
            yield Entry(number, content, "changed after it was written")
        elif follows != previous:
            yield Entry(number, content, "does not follow the entry before it: entries are missing or in another order")
        else:
            yield Entry(number, content)
        previous = said


def _hash(content: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in content.items() if name != "hash"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _last_hash(descriptor: int, size: int, log: Path) -> str:
    if size == 0:
        return _START
    tail = os.pread(descriptor, 65536, max(0, size - 65536))
    try:
        if not tail.endswith(b"\n"):
            raise ValueError("it has no end")
        return str(json.loads(tail.splitlines()[-1])["hash"])
    except (ValueError, KeyError, TypeError):
        raise FedpolypError(
            f"the last line of the audit log {log} is damaged (a full disk, a power cut): look at it with 'fedpolyp "
            "site log', then move the log away; a new one begins by itself"
        ) from None
