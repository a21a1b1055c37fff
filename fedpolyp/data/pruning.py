"""Lists the stores, and removes those that nobody uses."""

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.data.store import DRAFT, FILES, TABLE, UNPACKED


@dataclass(frozen=True)
class Found:
    """A store, or an unpacked archive, in the folder of stores."""

    path: Path
    size: int  # bytes
    used: float  # when a command last opened it, seconds since 1970
    open: bool  # whether a process has it open


def stores_in(folder: Path) -> list[Found]:
    """The complete stores and the unpacked archives in `folder`, by name; other files are ignored.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if (size := _size(path)) is not None:
            with suppress(FileNotFoundError):  # another process removes it
                found.append(Found(path, size, path.stat().st_mtime, _is_open(path)))
    return found


def prune(folder: Path, seconds: float) -> tuple[list[Found], list[Found]]:
    """Remove the stores in `folder` that no command has opened for this many `seconds` and none has open now.

    Only what `stores_in` finds is removed, and of a store only its three files. Returns the removed stores and the
    remaining ones.

    Raises:
        OSError: the folder cannot be read.
    """
    removed: list[Found] = []
    left: list[Found] = []
    for store in stores_in(folder):
        unused = time.time() - store.used >= seconds
        (removed if unused and _remove(store.path) else left).append(store)
    return removed, left


def keep_newest(folder: Path, count: int) -> None:
    """Remove the stores in `folder` that no process has open, except for the `count` that were used last.

    Raises:
        OSError: the folder cannot be read.
    """
    for store in sorted(stores_in(folder), key=lambda store: store.used)[:-count]:
        _remove(store.path)


def total(stores: Sequence[Found]) -> int:
    """Their total bytes."""
    return sum(store.size for store in stores)


def _size(path: Path) -> int | None:
    """The bytes of the store at `path`; None if it is not a store, which has only its three files.

    For an unpacked archive, the bytes of all its files.
    """
    if _is_unpacked(path):
        places = ((place, files) for place, _, files in os.walk(path))
        return sum(os.lstat(os.path.join(place, file)).st_size for place, files in places for file in files)
    try:
        if path.name.startswith(DRAFT) or path.is_symlink() or set(os.listdir(path)) != FILES:
            return None
        kinds = [(path / name).lstat() for name in FILES]
    except OSError:
        return None
    return sum(kind.st_size for kind in kinds) if all(stat.S_ISREG(kind.st_mode) for kind in kinds) else None


def _is_unpacked(path: Path) -> bool:
    return path.name.startswith(UNPACKED) and path.is_dir() and not path.is_symlink()


def _is_open(path: Path) -> bool:
    held = _alone(path)
    if held is not None:
        os.close(held)
    return held is None


def _alone(path: Path) -> int | None:
    """A descriptor that shows that nobody else has the store at `path` open; None if somebody has, or may have."""
    locked, access = (path, os.O_RDONLY) if _is_unpacked(path) else (path / TABLE, os.O_RDWR)
    try:
        held = os.open(locked, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), os.stat(locked)):
            return held
    except OSError:  # open elsewhere, or on a file system without locks
        pass
    os.close(held)
    return None


def _remove(path: Path) -> bool:
    held = _alone(path)
    if held is None:
        return False
    try:
        if _size(path) is None:
            return False
        # Rename it first: other processes then find all of it or nothing. A leftover is removed after a day.
        doomed = path.with_name(f"{DRAFT}{path.name}-{secrets.token_hex(4)}")
        unpacked = _is_unpacked(path)
        path.rename(doomed)
        if unpacked:
            shutil.rmtree(doomed)
            return True
        for name in FILES:
            (doomed / name).unlink()
        doomed.rmdir()
    except OSError:
        return False
    finally:
        os.close(held)
    return True
