"""Walks a folder that may contain anything: links in circles, unreadable folders. No file is opened."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.data.pairs import File
from fedpolyp.data.reading import SUFFIXES, too_large, what_kind
from fedpolyp.data.store import Rejection
from fedpolyp.names import UNFIT, check_id
from fedpolyp.text import printable


@dataclass(frozen=True)
class Tree:
    """A source's folder; all paths are relative to it, '' is itself."""

    root: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.name

    def has(self, *folders: str) -> bool:
        """Whether all of these are folders."""
        return all(os.path.isdir(self.root / folder) for folder in folders)

    def names(self, folder: str = "") -> list[str]:
        """The names in `folder`, sorted, without hidden ones; [] if it cannot be read."""
        try:
            return sorted(_names(self.root / folder))
        except OSError:
            return []

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders in `folder`, sorted."""
        return [name for name in self.names(folder) if os.path.isdir(self.root / folder / name)]

    def beneath(self, folder: str) -> "Tree":
        """The tree of one of its folders."""
        return Tree(self.root / folder)


def walk(tree: Tree, folder: str) -> tuple[list[File], list[Rejection]]:
    """All files in `folder` of `tree` and in its subfolders, and the entries that cannot be read.

    Each folder is read once, however many links lead to it.
    """
    files: list[File] = []
    rejected: list[Rejection] = []
    top = (tree.root / folder).resolve()
    seen = {(status.st_dev, status.st_ino) for status in (place.stat() for place in (top, *top.parents))}
    pending = [""]
    while pending:
        inside = pending.pop()
        path = tree.root / folder / inside
        shown = printable("/".join(filter(None, (folder, inside.rstrip("/")))) or ".") + "/"
        try:
            names = sorted(_names(path))
        except OSError as error:
            rejected.append(Rejection(shown, f"a folder that cannot be read: {error.strerror}"))
            continue
        if inside and not names:
            rejected.append(Rejection(shown, "an empty folder"))
        for name in names:
            status = _status(path / name)
            if not isinstance(status, str) and stat.S_ISDIR(status.st_mode):
                if (known := (status.st_dev, status.st_ino)) in seen:
                    entry = printable("/".join(filter(None, (folder, f"{inside}{name}/"))))
                    rejected.append(Rejection(entry, "a link to a folder that is read already, or that it lies in"))
                else:
                    seen.add(known)
                    pending.append(f"{inside}{name}/")
            else:
                files.append(_file(folder, f"{inside}{name}", status))
    return sorted(files, key=lambda file: file.path), rejected


def look_at(tree: Tree, path: str) -> File:
    """The file at `path`, which may be an absolute one."""
    return _file("", path, _status(tree.root / path))


def unfit(name: str) -> str:
    """Why a file called `name` (with its ending) cannot become an image; '' if it can."""
    if os.path.splitext(name)[1].lower() not in SUFFIXES:
        return f"not one of {', '.join(SUFFIXES)}"
    return "its name is not UTF-8, or has control characters: rename it" if UNFIT.search(name) else ""


def unfit_id(id: str) -> str:
    """Why `id` cannot be an image's; '' if it can."""
    try:
        check_id(id)
    except ValueError as error:
        return f"{error}: rename it"
    return ""


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if not entry.name.startswith((".", "__MACOSX")))


def _status(path: Path) -> os.stat_result | str:
    try:
        return path.stat()
    except (OSError, ValueError) as error:  # a link to nowhere, or to itself
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _file(folder: str, name: str, status: os.stat_result | str) -> File:
    fault = unfit(name)
    if isinstance(status, str):
        return File(folder, name, 0, 0, fault or status)
    return File(
        folder,
        name,
        status.st_size,
        status.st_mtime_ns,
        fault or what_kind(status.st_mode) or too_large(status.st_size),
    )
