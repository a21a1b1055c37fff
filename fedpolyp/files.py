"""Writes files that are either whole or absent, whatever happens to the process; reads files safely; locks.

Files may come from somebody else: only regular files are opened, up to a size, and a file that cannot be read as
expected is refused in one sentence.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fedpolyp.errors import FedpolypError, UsageError

_TOML_BYTES = 64 * 1024  # ten times a config with all its comments
_LOOKS, _PAUSE = 5, 0.05  # how often a lock is tried, and seconds in between
_TOML_DOTS = 1000  # in a line: tomllib's time for a dotted key grows with the square of its dots, 9 s for 20,000


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an exception.

    The bytes are on disk before the name changes, so a reader finds the old file or the new one, never a part. `mode`
    and the process's umask decide who may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with (
            naming(path, temporary),
            os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream,
        ):
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # as on a disk that can only be read, whose first error says more
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8), whole or not at all."""
    with replacing(path) as stream:
        stream.write(text.encode())


def append_text(path: Path, text: str) -> None:
    """Append `text` (UTF-8) to the file at `path`; it is on disk when this returns.

    Raises:
        OSError: the disk refuses, or `path` is a link, which is not followed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with naming(path), os.fdopen(os.open(path, flags, 0o666), "ab") as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def append_line(descriptor: int, line: bytes) -> None:
    """Append `line` to an open file, on disk and whole, or not at all: half a line would spoil all later ones.

    Raises:
        OSError: the disk refuses.
    """
    size = os.fstat(descriptor).st_size
    try:
        written = os.write(descriptor, line)
        os.fsync(descriptor)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an error name `path`: that of a full disk names no file, others name the `temporary` one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename == str(temporary)):
            error.filename = str(path)
        raise


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as standard JSON: a number that is not finite is null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading if it is a regular file, or a link to one; reading anything else may never end.

    Raises:
        OSError: it is not a regular file, or cannot be opened.
    """
    # Opening a named pipe would wait for a writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        kind = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(kind):
            number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(number, os.strerror(number) if stat.S_ISDIR(kind) else "not a regular file", str(path))
        yield stream


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: it is larger, not a regular file, or cannot be read.
    """
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit // 1024:,} KB", str(path))
    return content


def parse_json(content: bytes | str) -> Any:
    """The value of `content` as JSON; NaN and Infinity, which JSON does not have, are None.

    Raises:
        ValueError: it is not JSON, not text, too deeply nested, or has a number of thousands of digits.
    """
    try:
        return json.loads(content, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, limit: int) -> Any:
    """The value of the JSON file at `path`, of at most `limit` bytes.

    Raises:
        FedpolypError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(read_bytes(path, limit))
    except OSError as error:
        raise FedpolypError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise FedpolypError(f"{path} is not valid JSON: {error}") from None


def read_toml(path: Path, called: str = "") -> dict[str, Any]:
    """The content of the TOML file at `path`, with or without a byte-order mark; `called` describes it in messages.

    Raises:
        UsageError: it cannot be read, is larger than 64 KB, or is not TOML.
    """
    try:
        text = read_bytes(path, _TOML_BYTES).decode("utf-8-sig")
        if any(line.count(".") > _TOML_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {_TOML_DOTS} dots")
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {called}{path}: {error.strerror}") from None
    except RecursionError:
        raise UsageError(f"{path} is not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # of TOML, of UTF-8, of a number with thousands of digits
        why = "a number has thousands of digits" if "set_int_max_str_digits" in str(error) else error
        raise UsageError(f"{path} is not valid TOML: {why}") from None


@contextmanager
def sole(lock: Path, otherwise: str) -> Iterator[None]:
    """Keep every other process out of the block; the lock ends with the process that holds it.

    The file `lock` stays, and a link in its place is not followed.

    Raises:
        FedpolypError: another process is in the block, with the message `otherwise`, or `lock` cannot be opened.
    """
    with _lock_file(lock, os.O_RDWR | os.O_CREAT) as handle:
        if not _taken(handle):
            raise FedpolypError(otherwise)
        yield


def _taken(handle: int) -> bool:
    """Take the lock if it is free; `is_locked` takes it for a moment."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
    return False


def is_locked(lock: Path) -> bool:
    """Whether a process is in a block that `sole` protects with the file `lock`.

    Raises:
        FedpolypError: `lock` cannot be opened.
    """
    try:
        with _lock_file(lock, os.O_RDONLY) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@contextmanager
def _lock_file(lock: Path, flags: int) -> Iterator[int]:
    try:
        handle = os.open(lock, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise FedpolypError(f"cannot open the lock {lock}: {why}") from None
    try:
        yield handle
    finally:
        os.close(handle)
