"""Importing without unneeded packages, and only from where they are installed."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_INSTALLATION = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let imports of `packages` fail as if they were not installed, unless they are imported already."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def keep_out_the_working_folder() -> None:
    """Keep this process, and those that it starts, from importing modules in the working folder.

    A user's own clients.py, server.py or random.py there would replace this project's packages, or Python's. If this
    project itself is in the working folder, it stays.
    """
    sys.path[:] = kept(sys.path)
    os.environ["PYTHONSAFEPATH"] = "1"
    given = kept(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if _is_working_folder(_INSTALLATION):
        given.append(str(_INSTALLATION))
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(given))
    if not given:
        del os.environ["PYTHONPATH"]


def kept(path: Iterable[str]) -> list[str]:
    """The folders of `path`, in order, without the working folder and relative ones."""
    return [
        folder
        for folder in path
        if os.path.isabs(folder) and (Path(folder).resolve() == _INSTALLATION or not _is_working_folder(Path(folder)))
    ]


def _is_working_folder(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # the working folder may be gone
        return os.path.samefile(folder, os.curdir)
    return False
