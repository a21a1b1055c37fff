"""Which files of a folder make pairs of an image and a mask; every other is named with its reason.

Nothing is opened here: an entry that cannot be used spoils its own pair alone.
"""

import itertools
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.data.reading import SUFFIXES, too_large, what_kind
from fedpolyp.data.store import Rejection
from fedpolyp.errors import UsageError
from fedpolyp.names import check_id
from fedpolyp.text import printable

PARTS = ("images", "masks")
WANTED = f"images/ and masks/ with files of the same stems ({', '.join(SUFFIXES)})"
# Control characters, bytes that are no UTF-8, breaks of lines, and what turns the direction of writing: names become
# ids, which are written into tables and pages.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COUNTED = 10_000  # files in a subfolder, of which only the number is told


@dataclass(frozen=True)
class File:
    """A file in images/ or masks/, and what tells a changed one from an unchanged one without reading it."""

    part: str  # images or masks
    name: str
    size: int  # bytes
    mtime_ns: int
    fault: str  # why it cannot be used; '' if nothing speaks against it yet

    @property
    def path(self) -> str:
        """Its path in the source's folder."""
        return f"{self.part}/{self.name}"


@dataclass(frozen=True)
class Pair:
    """An image and the mask of the same stem."""

    stem: str
    image: str  # path in the source's folder, as is the mask
    mask: str


@dataclass(frozen=True)
class Listing:
    """What a source's folder holds."""

    files: tuple[File, ...]  # in the order of their paths
    pairs: tuple[Pair, ...]  # in the order of their stems
    rejected: tuple[Rejection, ...]  # one for each stem, file or subfolder that makes no pair


def list_pairs(folder: Path) -> Listing:
    """The pairs in `folder`, and what in it makes none.

    Raises:
        UsageError: `folder` lacks images/ or masks/, or they cannot be listed.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {printable(str(folder))}; the source must be a folder that has {WANTED}")
    missing = [f"{part}/" for part in PARTS if not (folder / part).is_dir()]
    files: list[File] = []
    rejected: list[Rejection] = []
    try:
        beside = sorted(os.listdir(folder))
        if missing:
            found = printable(", ".join(beside[:8])) or "nothing"
            raise UsageError(
                f"{printable(str(folder))} has no {' and no '.join(missing)}: looked for {WANTED}, found {found}"
            )
        for name in beside:
            if (
                name not in PARTS
                and not name.startswith(".")
                and all(os.path.isdir(folder / name / part) for part in PARTS)
            ):
                reason = "a folder with images/ and masks/ of its own, not read: it is a source by itself"
                rejected.append(Rejection(printable(f"{name}/"), reason))
        for part in PARTS:
            for entry in sorted(_entries(folder / part)):
                if isinstance(found_one := _look_at(folder, part, entry), File):
                    files.append(found_one)
                else:
                    rejected.append(found_one)
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(error.filename or folder))}: {error.strerror}") from None
    pairs, unpaired = _pair(files)
    return Listing(tuple(files), tuple(pairs), (*rejected, *unpaired))


def _entries(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if not entry.name.startswith("."))


def _look_at(folder: Path, part: str, name: str) -> File | Rejection:
    path = folder / part / name
    size = mtime_ns = 0
    try:
        status = path.stat()
    except OSError as error:  # a link to nowhere, or to itself
        fault = f"cannot be read: {error.strerror}"
    else:
        if stat.S_ISDIR(status.st_mode):
            return Rejection(printable(f"{part}/{name}/"), _subfolder(path))
        size, mtime_ns = status.st_size, status.st_mtime_ns
        fault = what_kind(status.st_mode) or too_large(size)
    if os.path.splitext(name)[1].lower() not in SUFFIXES:
        fault = f"not one of {', '.join(SUFFIXES)}"
    elif _UNFIT.search(name):
        fault = "its name is not UTF-8, or has control characters: rename it"
    elif not fault:
        fault = _unfit_id(os.path.splitext(name)[0])
    return File(part, name, size, mtime_ns, fault)


def _unfit_id(stem: str) -> str:
    try:
        check_id(stem)
    except ValueError as error:
        return f"{error}: rename it"
    return ""


def _subfolder(path: Path) -> str:
    try:
        count = sum(1 for _ in itertools.islice(_entries(path), _COUNTED))
    except OSError:
        return "a folder, not read"
    many = f"{count} or more" if count == _COUNTED else str(count)
    return f"a folder, not read: only files right in images/ and masks/ are; it has {many}"


def _pair(files: list[File]) -> tuple[list[Pair], list[Rejection]]:
    stems: dict[str, dict[str, list[File]]] = {}
    rejected = []
    for file in files:
        stem, suffix = os.path.splitext(file.name)
        if suffix.lower() in SUFFIXES:
            stems.setdefault(stem, {part: [] for part in PARTS})[file.part].append(file)
        else:
            rejected.append(Rejection(printable(file.path), file.fault))
    pairs = []
    for stem, found in sorted(stems.items()):
        images, masks = (found[part] for part in PARTS)
        faulty = [file for file in (*images, *masks) if file.fault]
        if faulty:
            rejected.append(Rejection(printable(faulty[0].path), faulty[0].fault))
        elif len(images) > 1 or len(masks) > 1:
            doubled = images if len(images) > 1 else masks
            rejected.append(Rejection(doubled[0].path, f"same stem as {', '.join(file.path for file in doubled[1:])}"))
        elif not masks:
            rejected.append(Rejection(images[0].path, "no mask of this stem in masks/"))
        elif not images:
            rejected.append(Rejection(masks[0].path, "no image of this stem in images/"))
        else:
            pairs.append(Pair(stem, images[0].path, masks[0].path))
    return pairs, rejected
