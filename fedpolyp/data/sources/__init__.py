"""The sources: a folder in one of several layouts, an archive of one, two folders, or a CSV.

A layout is one file. It says what it looks for, and lists the parts (images with their masks) of such a folder.
"""

import os
import re
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from fedpolyp.data.pairs import File, Listing, Pair, spelling
from fedpolyp.data.places import two_folders
from fedpolyp.data.reading import SUFFIXES
from fedpolyp.data.sources import (
    archive,
    bkai,
    centers,
    clinicdb,
    colondb,
    endoscene,
    etis,
    hyper_kvasir,
    kvasir_seg,
    polypgen,
    pranet,
    table,
)
from fedpolyp.data.sources.part import Part, look_through
from fedpolyp.data.sources.tree import Tree
from fedpolyp.data.store import Rejection, stores_folder
from fedpolyp.data.unpack import is_archive
from fedpolyp.errors import UsageError
from fedpolyp.text import printable

# The first layout that recognizes the folder is used. PraNet's come first because they go by the folder's name.
LAYOUTS: tuple[ModuleType, ...] = (
    *(pranet, kvasir_seg, hyper_kvasir, polypgen, clinicdb, etis, endoscene, bkai, colondb),
    centers,
)
WANTED = "; ".join(
    f"{layout.LOOKS_FOR} ({layout.NAME})" for layout in sorted(LAYOUTS, key=lambda layout: layout is not kvasir_seg)
)
_WRAPPED = 3  # folders that may surround a layout, each the only one in its parent


@dataclass(frozen=True)
class Listed:
    """A source whose files were listed."""

    root: Path  # the paths in the listing are relative to it
    name: str  # of the folder, the archive or the CSV
    listing: Listing


def list_source(place: str | Path, group_by: str | None = None, stores: Path | None = None) -> Listed:
    """The pairs at `place`, and the files that do not form a pair. No picture is opened.

    Args:
        place: a folder, an archive of one, two folders as IMAGES:MASKS, or a CSV.
        group_by: a regular expression; images stay together if it finds the same in their ids (its first group, if it
            has one).
        stores: where archives are unpacked, `stores_folder()` unless given; an unpacked archive is not removed as long
            as the result is in use.

    Raises:
        UsageError: there is no such place, it has no known layout, or it is an unsafe archive.
        FedpolypError: the disk refuses.
    """
    path = Path(os.path.expanduser(place)).resolve()  # Path's own fails for an unknown user
    if path.is_file() and path.suffix.lower() == ".csv":
        listed = _of_table(path)
    elif two := two_folders(str(place)):
        listed = _of_two(*two)
    elif path.is_file() and is_archive(path):
        folder = archive.unpacked(path, stores or stores_folder())
        return _of_archive(path, folder, group_by)
    else:
        listed = _of_folder(path)
    return replace(listed, listing=_grouped(listed.listing, group_by))


def _of_folder(folder: Path) -> Listed:
    if not folder.is_dir():
        there = f"{printable(str(folder))} is a file" if folder.exists() else f"there is no {printable(str(folder))}"
        raise UsageError(
            f"{there}; the source must be a folder with images/ and masks/ or another known layout, an "
            "archive of one (.zip, .tar.gz), IMAGES:MASKS, or a .csv"
        )
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(folder))}: {error.strerror}") from None
    inside, layout, parts = _recognised(folder)
    taken = {part.images.split("/")[0] for part in parts}
    beside = [
        Rejection(
            printable(f"{inside}{name}/"),
            "a folder with images/ and masks/ of its own, not read: it is a separate source",
        )
        for name in Tree(folder).folders(inside)
        if name not in taken and Tree(folder).has(f"{inside}{name}/images", f"{inside}{name}/masks")
    ]
    moved = [
        replace(
            p,
            images=f"{inside}{p.images}".rstrip("/"),
            masks=None if p.masks is None else f"{inside}{p.masks}".rstrip("/"),
        )
        for p in parts
    ]
    return Listed(folder, folder.name, _of_parts(Tree(folder), layout, moved, beside))


def _recognised(folder: Path) -> tuple[str, str, list[Part]]:
    """Where in `folder` a layout begins, which layout, and its parts."""
    inside = ""
    for _ in range(1 + _WRAPPED):
        tree = Tree(folder).beneath(inside)
        for layout in LAYOUTS:
            if parts := layout.parts(tree):
                return inside, layout.NAME, parts
        folders = tree.folders()
        if len(folders) != 1:
            break
        inside = f"{inside}{folders[0]}/"
    tree = Tree(folder)
    missing = [f"{name}/" for name in ("images", "masks") if not tree.has(name)]
    found = printable(", ".join(tree.names()[:8])) or "nothing"
    raise UsageError(
        f"{printable(str(folder))} has no {' and no '.join(missing)}, nor another known layout: looked for "
        f"{WANTED}; with files {', '.join(SUFFIXES)}; found {found}"
    )


def _of_archive(path: Path, folder: Path, group_by: str | None) -> Listed:
    held = archive.hold(folder)
    try:
        listed = _of_folder(folder)
    except BaseException:
        os.close(held)
        raise
    listed = Listed(listed.root, archive.stem(path), _grouped(listed.listing, group_by))
    weakref.finalize(listed, os.close, held)
    return listed


def _of_two(images: Path, masks: Path) -> Listed:
    root = Path(os.path.commonpath([images, masks]))
    within = [str(folder.relative_to(root)).removeprefix(".") for folder in (images, masks)]
    listing = _of_parts(Tree(root), "two folders", [Part(within[0], within[1])], [])
    return Listed(root, images.name, listing)


def _of_table(path: Path) -> Listed:
    found = table.read_table(path)
    pairs, doubled = _once(found.pairs)
    listing = _listing(table.NAME, (), found.files, pairs, [*found.rejected, *doubled])
    return Listed(path.parent, path.stem, replace(listing, notes=tuple(found.notes)))


def _of_parts(tree: Tree, layout: str, parts: Iterable[Part], rejected: list[Rejection]) -> Listing:
    files: list[File] = []
    pairs: list[Pair] = []
    folders: list[str] = []
    for part in parts:
        found = look_through(tree, part)
        files += found.files
        pairs += found.pairs
        rejected += found.rejected
        folders += [part.images] if part.masks is None else [part.images, part.masks]
    kept, doubled = _once(pairs)
    return _listing(layout, tuple(folders), files, kept, [*rejected, *doubled])


def _listing(
    layout: str, folders: tuple[str, ...], files: list[File], pairs: list[Pair], rejected: list[Rejection]
) -> Listing:
    return Listing(
        layout,
        tuple(dict.fromkeys(folders)),
        tuple(sorted(files, key=lambda file: file.path)),
        tuple(sorted(pairs, key=lambda pair: pair.id)),
        tuple(rejected),
    )


def _once(pairs: list[Pair]) -> tuple[list[Pair], list[Rejection]]:
    """The first pair of each id, and why the others are left out."""
    first: dict[str, Pair] = {}
    doubled = []
    for pair in pairs:
        if (other := first.setdefault(pair.id, pair)) is not pair:
            doubled.append(Rejection(pair.image, f"its id '{pair.id}' is that of {other.image}"))
    return list(first.values()), doubled


def _grouped(listing: Listing, group_by: str | None) -> Listing:
    """The listing with the groups that `group_by` finds, and a note about all groups."""
    pairs, notes = listing.pairs, list(listing.notes)
    if group_by is not None:
        found = [_label(re.search(group_by, pair.id)) for pair in pairs]
        pairs = tuple(_labelled(pair, label) if label else pair for pair, label in zip(pairs, found, strict=True))
        notes.append(f"group_by finds a match in {sum(map(bool, found))} of {len(found)} names")
    if known := [pair for pair in pairs if pair.groups]:
        labels = {label for pair in known for label in pair.groups}
        notes.append(f"{len(known)} of {len(pairs)} images are of {len(labels)} known patients, procedures or videos")
    if several := _written_differently(pairs):
        notes.append(
            f"patients whose names differ only in case, spaces or width, maybe of one person: {len(several)} (first: "
            f"{several[0].id}); their images stay together, and --unit patient is not possible"
        )
    return replace(listing, pairs=pairs, notes=tuple(notes))


def _written_differently(pairs: Iterable[Pair]) -> list[Pair]:
    """The first image of each patient whose name was seen before, but written in another way."""
    first: dict[str, str] = {}
    found: dict[str, Pair] = {}
    for pair in pairs:
        if pair.patient and first.setdefault(spelling(pair.patient), pair.patient) != pair.patient:
            found.setdefault(pair.patient, pair)
    return list(found.values())


def _labelled(pair: Pair, label: str) -> Pair:
    group, patient = f"{pair.center} {spelling(label)}", f"{pair.center}/{label}"
    return replace(pair, groups=(*pair.groups, group), patient=pair.patient or patient)


def _label(match: re.Match[str] | None) -> str:
    if match is None:
        return ""
    return match[1] or "" if match.re.groups else match[0]
