"""A folder for a program's own sockets and logs: with a short name, closed to others, and removed with its process."""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedpolyp.errors import UsageError

_PREFIX = "fedpolyp-ray-"
_INSIDE = "r"  # Ray opens its folder to everybody, so it gets one inside a closed folder
# A socket's path has at most 107 bytes (103 on macOS). In its folder Ray makes
# session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store, and a folder of ours is named by 8 characters.
_LONGEST = (103 if sys.platform == "darwin" else 107) - len(
    "/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store"
)
_LONGEST_ABOVE = _LONGEST - len(f"/{_PREFIX}12345678/{_INSIDE}")
_ELSEWHERE = (Path("/tmp"), Path("/var/tmp"))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder that only this user can enter, removed at the end, together with those of killed processes.

    Raises:
        UsageError: no temporary folder can be written whose path is short enough.
    """
    above = _places()
    for place in above:
        _sweep(place)
    descriptor, made = _make(above)
    try:
        yield made / _INSIDE
    finally:
        _remove(made)
        os.close(descriptor)


def _places() -> list[Path]:
    """Where such a folder may be: first where the user wants temporary files."""
    wanted = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    places = dict.fromkeys([*(Path(place).absolute() for place in wanted), *_ELSEWHERE])
    return [place for place in places if len(os.fsencode(place)) <= _LONGEST_ABOVE]


def _make(above: list[Path]) -> tuple[int, Path]:
    """A new folder with its lock, which ends with this process."""
    for place in above:
        with contextlib.suppress(OSError):
            while True:
                made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
                descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if made.exists():  # no other process took it for a leftover before it had its lock
                    (made / _INSIDE).mkdir()
                    return descriptor, made
                os.close(descriptor)
    tried = (
        ", ".join(map(str, above)) or f"{os.environ.get('RAY_TMPDIR') or os.environ.get('TMPDIR')}, which is too long"
    )
    raise UsageError(
        f"Ray needs a writable folder with a path of at most {_LONGEST_ABOVE} characters; tried {tried}; "
        "set RAY_TMPDIR to one"
    )


def _sweep(place: Path) -> None:
    """Remove the folders of processes of this user that have ended."""
    for path in place.glob(f"{_PREFIX}????????"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            if about.st_uid != os.geteuid() or set(os.listdir(path)) - {_INSIDE}:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    for _ in range(3):  # Ray's last processes may still be writing there
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
