"""Archives as sources: unpacked once, into a folder beside the stores, and from then on read as a folder."""

import fcntl
import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from fedpolyp.data.store import UNPACKED
from fedpolyp.data.unpack import unpack
from fedpolyp.errors import FedpolypError


def stem(archive: Path) -> str:
    """The archive's name without its endings."""
    return re.sub(r"(\.tar\.gz|\.tgz|\.tar|\.zip)$", "", archive.name, flags=re.IGNORECASE)


def unpacked(archive: Path, stores: Path) -> Path:
    """The folder in `stores` to which `archive` was unpacked, now or before: identified by its path, size and time of
    change.

    Raises:
        UsageError: it is damaged, unsafe or too large (see `unpack`).
        FedpolypError: it cannot be looked at, or the disk refuses.
    """
    try:
        status = archive.stat()
    except OSError as error:
        raise FedpolypError(f"cannot read {archive}: {error.strerror}") from None
    known = json.dumps([str(archive), status.st_size, status.st_mtime_ns])
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem(archive)).strip(".-")[:40]
    folder = stores / f"{UNPACKED}{readable}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        unpack(archive, folder)
        # A store is identified by the times of its files: unpacked again, they are the same files.
        for place, _, files in os.walk(folder):
            for file in files:
                os.utime(os.path.join(place, file), ns=(status.st_mtime_ns, status.st_mtime_ns))
    return folder


def hold(folder: Path) -> int:
    """A descriptor that keeps an unpacked `folder` open, so that nobody removes it; marks it as used now.

    Raises:
        FedpolypError: it was just removed.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise FedpolypError(f"cannot read {folder}: {error.strerror}") from None
    with suppress(OSError):  # a file system without locks, or that is read only
        os.utime(folder)
        fcntl.flock(held, fcntl.LOCK_SH)
    return held
