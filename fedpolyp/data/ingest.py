"""Ingest: turns a folder of images and masks into a store, and says of every pair it cannot use why."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.duplicates import duplicate_groups
from fedpolyp.data.store import (
    ImageRecord,
    IngestReport,
    Rejection,
    Store,
    colour_tone,
    store_path,
    stores_folder,
    write_store,
)
from fedpolyp.errors import UsageError

VERSION = 1  # part of a store's key: raise it whenever the same files would give another store
FORMATS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
PARTS = ("images", "masks")
WANTED = f"images/ and masks/ with files of the same stems ({', '.join(FORMATS)})"


@dataclasses.dataclass(frozen=True)
class FileStamp:
    """What tells a changed file from an unchanged one without reading it."""

    part: str  # images or masks
    name: str
    size: int  # bytes
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and the mask of the same stem."""

    stem: str
    image: str  # relative to the source's folder, as is the mask
    mask: str


class _Unusable(Exception):
    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.rejection = Rejection(file, reason)


def ingest(folder: Path, image_size: int, stores: Path | None = None) -> Store:
    """The store of the pairs in `folder` at `image_size` pixels a side, opened if it was made before, else made.

    `stores` is the folder of all stores, `stores_folder()` unless given. Records are in the order of their ids. Pairs
    that cannot be used are in the store's report.

    Raises:
        UsageError: `folder` lacks images/ or masks/, or has no usable pair.
        FedpolypError: the store cannot be written, or what is in its place cannot be opened.
    """
    folder = Path(os.path.expanduser(folder)).resolve()  # Path's own fails for an unknown user
    files = _files(folder)
    key = [VERSION, image_size, str(folder), [dataclasses.astuple(file) for file in files]]
    path = store_path(stores or stores_folder(), folder.name, image_size, key)
    if path.exists():
        return Store.open(path)

    pairs, rejected = _pairs(files)
    images = np.empty((len(pairs), image_size, image_size, 3), np.uint8)
    masks = np.empty((len(pairs), image_size, image_size), np.uint8)

    def load(row: int) -> ImageRecord | Rejection:
        try:
            return _load(folder, pairs[row], images[row], masks[row])
        except _Unusable as unusable:
            return unusable.rejection

    with _silent_decoders(), ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(load, range(len(pairs))))
    rejected += [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    rejected.sort(key=lambda rejection: rejection.file)
    records = [outcome for outcome in outcomes if isinstance(outcome, ImageRecord)]
    if not records:
        raise UsageError(f"no usable pair in {folder}: looked for {WANTED}, found {_found(files, rejected)}")
    if len(records) < len(pairs):
        used = [isinstance(outcome, ImageRecord) for outcome in outcomes]
        images, masks = images[used], masks[used]
    groups = duplicate_groups(images).tolist()
    records = [dataclasses.replace(record, group=group) for record, group in zip(records, groups, strict=True)]
    return write_store(path, images, masks, records, IngestReport(len(records), tuple(rejected)))


def _files(folder: Path) -> list[FileStamp]:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; the source must be a folder that has {WANTED}")
    missing = [f"{part}/" for part in PARTS if not (folder / part).is_dir()]
    files = []
    try:
        if missing:
            found = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
            raise UsageError(f"{folder} has no {' and no '.join(missing)}: looked for {WANTED}, found {found}")
        for part in PARTS:
            with os.scandir(folder / part) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and not entry.is_dir():
                        # A link to nowhere stays in the list, to be rejected with its reason.
                        stat = entry.stat(follow_symlinks=entry.is_file())
                        files.append(FileStamp(part, entry.name, stat.st_size, stat.st_mtime_ns))
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    return sorted(files, key=lambda file: (file.part, file.name))


def _pairs(files: list[FileStamp]) -> tuple[list[Pair], list[Rejection]]:
    """The pairs in the order of their stems, and one rejection for each stem or file that makes none."""
    stems: dict[str, dict[str, list[str]]] = {}
    rejected = []
    for file in files:
        path = f"{file.part}/{file.name}"
        stem, suffix = os.path.splitext(file.name)
        if suffix.lower() in FORMATS:
            stems.setdefault(stem, {part: [] for part in PARTS})[file.part].append(path)
        else:
            rejected.append(Rejection(path, f"not one of {', '.join(FORMATS)}"))
    pairs = []
    for stem, found in sorted(stems.items()):
        images, masks = (found[part] for part in PARTS)
        if len(images) > 1 or len(masks) > 1:
            doubled = images if len(images) > 1 else masks
            rejected.append(Rejection(doubled[0], f"same stem as {', '.join(doubled[1:])}"))
        elif not masks:
            rejected.append(Rejection(images[0], "no mask of this stem in masks/"))
        elif not images:
            rejected.append(Rejection(masks[0], "no image of this stem in images/"))
        else:
            pairs.append(Pair(stem, images[0], masks[0]))
    return pairs, rejected


def _load(folder: Path, pair: Pair, image_row: NDArray[np.uint8], mask_row: NDArray[np.uint8]) -> ImageRecord:
    """Fills one row of the store; the record's group is still to be found."""
    image_bytes, mask_bytes = _read(folder, pair.image), _read(folder, pair.mask)
    image = _decode(pair.image, image_bytes, cv2.IMREAD_COLOR_RGB)
    mask = _to_grey(_decode(pair.mask, mask_bytes, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH))
    height, width = image.shape[:2]
    if mask.shape != (height, width):
        theirs = f"{mask.shape[1]}x{mask.shape[0]}"
        raise _Unusable(pair.mask, f"the mask is {theirs} pixels, its image {width}x{height}")
    side = mask_row.shape[0]
    image_row[:] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    mask_row[:] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) >= 128
    if not mask_row.any():
        raise _Unusable(pair.mask, f"the mask is empty: no lesion pixel at {side}x{side}")
    return ImageRecord(
        id=pair.stem,
        source=folder.name,
        look=-1,
        height=height,
        width=width,
        lesion_fraction=float(mask_row.mean()),
        tone=colour_tone(image_row),
        group=-1,
        sha256=hashlib.sha256(image_bytes + mask_bytes).hexdigest(),
    )


def _read(folder: Path, file: str) -> bytes:
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise _Unusable(file, f"cannot be read: {error.strerror}") from None


def _decode(file: str, content: bytes, flags: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # raised for an empty file or an absurd size; for other damage the answer is None
        pixels = None
    if pixels is None:
        raise _Unusable(file, "cannot be decoded: damaged, or not the format its name says")
    return pixels


def _to_grey(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Any stored mask (8 or 16 bits, grey or colour, 0/1 or full range) as uint8 (H, W) in 0..255."""
    if mask.ndim == 3:
        # The brightest channel: a lesion painted pure red has a luminance below the threshold.
        mask = np.maximum.reduce(cv2.split(mask))  # ten times as fast as mask.max(axis=2)
    brightest = mask.max()
    if brightest <= 1:
        mask = mask * 255
    elif brightest > 255:
        mask = mask // 257
    return mask.astype(np.uint8)


def _found(files: list[FileStamp], rejected: list[Rejection]) -> str:
    counts = " and ".join(f"{sum(file.part == part for file in files)} in {part}/" for part in PARTS)
    reasons = "; ".join(f"{rejection.file}: {rejection.reason}" for rejection in rejected[:3])
    return f"{counts} ({reasons})" if reasons else counts


@contextmanager
def _silent_decoders() -> Iterator[None]:
    """Keeps what OpenCV, libpng and libtiff print about damaged files, which the report tells better, off stderr."""
    # libpng writes to the descriptor itself: OpenCV's log level does not reach it.
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
