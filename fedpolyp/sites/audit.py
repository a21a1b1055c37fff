"""The audit log: one JSON line for each request to a site and each reply from it, chained by hashes."""

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
from fedpolyp.files import append_line, open_regular

_START = "0" * 64  # the previous hash of the first entry
_MOST_BYTES = 65536  # of an entry; those that this project writes are below 2 kB
# Errors of reading a line that somebody else wrote: not JSON, not an object, nested too deeply, a huge number.
_NO_ENTRY = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """A line of the log, and its fault ('' for none)."""

    number: int  # of the line, from 1
    content: dict[str, Any]
    fault: str = ""


def append(log: Path, event: str, details: Mapping[str, Any]) -> str:
    """Add an entry; it is on disk when this returns. Returns its hash, which the next entry will contain.

    Raises:
        OSError: the disk refuses.
        FedpolypError: the last line is not an entry, so nothing can follow it.
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
        append_line(descriptor, json.dumps(content).encode() + b"\n")
    finally:
        os.close(descriptor)
    return str(content["hash"])


def read(log: Path) -> Iterator[Entry]:
    """The entries of `log` in order, each with its fault if it or its link to the entry before was changed later.

    Lines cut off at the end cannot be detected in the log itself: compare the last hash with one recorded elsewhere.
    The log may be long and contain anything, so it is read line by line.

    Raises:
        FedpolypError: it cannot be read.
    """
    try:
        with open_regular(log) as stream:
            yield from _entries(iter(lambda: stream.readline(_MOST_BYTES), b""))
    except OSError as error:
        raise FedpolypError(f"cannot read the audit log {log}: {error.strerror}") from None


def _entries(lines: Iterator[bytes]) -> Iterator[Entry]:
    previous = _START
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            said, follows, found = str(content["hash"]), content["previous"], _hash(content)
        except _NO_ENTRY:
            yield Entry(number, {}, "not an entry")
            continue
        if found != said:
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
    tail = os.pread(descriptor, _MOST_BYTES, max(0, size - _MOST_BYTES))
    try:
        if not tail.endswith(b"\n"):
            raise ValueError("it has no end")
        return str(json.loads(tail.splitlines()[-1])["hash"])
    except _NO_ENTRY:
        raise FedpolypError(
            f"the last line of the audit log {log} is damaged (a full disk, a power cut): look at it with 'fedpolyp "
            "site log', then move the log away; a new log starts automatically"
        ) from None
