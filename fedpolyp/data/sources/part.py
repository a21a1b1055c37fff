"""A part of a source: a folder of images and the folder of their masks, and how their files' names form pairs."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from fedpolyp.data.pairs import File, Pair
from fedpolyp.data.reading import SUFFIXES
from fedpolyp.data.sources.tree import Tree, unfit_id, walk
from fedpolyp.data.store import Rejection
from fedpolyp.text import printable

Key = Callable[[str], str | None]
"""From the stem of a file's name, what an image and its mask have in common; None if the file is neither."""


def _stem(stem: str) -> str | None:
    return stem


def _no_group(stem: str) -> str:
    return ""


@dataclass(frozen=True)
class Part:
    """Images in one folder of a source, with their masks in another or the same, in subfolders or not."""

    images: str  # path in the source's folder; '' for itself
    masks: str | None  # likewise; None for frames without a polyp
    center: str = ""  # the hospital that the images are from
    prefix: str = ""  # of the ids
    image_key: Key = _stem
    mask_key: Key = _stem
    group: Callable[[str], str] = _no_group  # label of patient, procedure or video, from an image's stem; '' for none
    center_of: Callable[[str], str] | None = None  # the hospital, from an image's stem, instead of `center`


@dataclass(frozen=True)
class Found:
    """The contents of a part."""

    files: list[File]
    pairs: list[Pair]
    rejected: list[Rejection]


def look_through(tree: Tree, part: Part) -> Found:
    """The pairs of `part`, and each file that forms none."""
    images, rejected = walk(tree, part.images)
    masks: list[File] = []
    if part.masks is not None and part.masks != part.images:
        masks, unread = walk(tree, part.masks)
        rejected += unread
    elif part.masks is not None:
        masks = images
    files = images if masks is images else [*images, *masks]
    by_key: dict[str, tuple[list[File], list[File]]] = {}
    for place, (some, key_of) in enumerate(((images, part.image_key), (masks, part.mask_key))):
        for file in some:
            inside, stem, picture = _split(file)
            if not picture:
                rejected.append(Rejection(printable(file.path), file.fault))
            elif (key := key_of(stem)) is not None:
                by_key.setdefault(f"{inside}{key}", ([], []))[place].append(file)
    pairs = []
    for _, (own, theirs) in sorted(by_key.items()):
        if reason := _refused(part, own, theirs):
            rejected.append(reason)
        elif own:
            pairs.append(_pair(part, own[0], theirs[0].path if theirs else ""))
    return Found(files, pairs, list(dict.fromkeys(rejected)))


def _split(file: File) -> tuple[str, str, bool]:
    """The folder (with its slash), the stem, and whether it is a picture by its ending."""
    inside, name = os.path.split(file.name)
    stem, suffix = os.path.splitext(name)
    return inside + "/" if inside else "", stem, suffix.lower() in SUFFIXES


def _refused(part: Part, images: list[File], masks: list[File]) -> Rejection | None:
    faulty = [file for file in (*images, *masks) if file.fault]
    if faulty:
        return Rejection(printable(faulty[0].path), faulty[0].fault)
    if len(images) > 1 or len(masks) > 1:
        doubled = images if len(images) > 1 else masks
        return Rejection(doubled[0].path, f"same stem as {', '.join(file.path for file in doubled[1:])}")
    if part.masks is not None and not masks:
        return Rejection(images[0].path, f"no mask of this stem in {part.masks or '.'}/{_split(images[0])[0]}")
    if not images:
        return Rejection(masks[0].path, f"no image of this stem in {part.images or '.'}/{_split(masks[0])[0]}")
    inside, stem, _ = _split(images[0])
    if fault := unfit_id(f"{part.prefix}{inside}{stem}"):
        return Rejection(printable(images[0].path), fault)
    return None


def _pair(part: Part, image: File, mask: str) -> Pair:
    inside, stem, _ = _split(image)
    center = part.center if part.center_of is None else part.center_of(stem)
    label = part.group(stem)
    return Pair(f"{part.prefix}{inside}{stem}", image.path, mask, center, (label,) if label else ())
