"""Ingest: turns a folder of images and masks into a store, and says of every pair it cannot use why."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.duplicates import duplicate_groups
from fedpolyp.data.levels import spans
from fedpolyp.data.masks import UNSAID, MaskRule, MaskSettings, Summary
from fedpolyp.data.orientation import Undecidable, lying_alike
from fedpolyp.data.pairs import PARTS, WANTED, Listing, Pair, list_pairs
from fedpolyp.data.plausibility import Shown, check_lesions, check_values, doubts_of_images, doubts_of_masks
from fedpolyp.data.reading import Picture, Unusable, decode_image, decode_mask, look, read, room_for, silent_decoders
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
from fedpolyp.text import printable

VERSION = 5  # part of a store's key: raise it whenever the same files would give another store

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class _Row:
    """One pair in the store's arrays; the record's group is still to be found."""

    record: ImageRecord
    shown: Shown
    tagged: bool  # by EXIF, image or mask


def ingest(folder: Path, image_size: int, stores: Path | None = None, masks: MaskSettings = UNSAID) -> Store:
    """The store of the pairs in `folder` at `image_size` pixels a side, opened if it was made before, else made.

    `stores` is the folder of all stores, `stores_folder()` unless given. Records are in the order of their ids. Pairs
    that cannot be used are in the store's report, as is what was taken for lesion.

    Raises:
        UsageError: `folder` lacks images/ or masks/, has no usable pair, or has masks that look wrong while `masks`
            does not say that they are meant so.
        FedpolypError: the store cannot be written, or what is in its place cannot be opened.
    """
    folder = Path(os.path.expanduser(folder)).resolve()  # Path's own fails for an unknown user
    listing = list_pairs(folder)
    key = [VERSION, image_size, str(folder), dataclasses.astuple(masks), dataclasses.astuple(listing)]
    path = store_path(stores or stores_folder(), folder.name, image_size, key)
    if path.exists():
        return Store.open(path)
    with silent_decoders():
        images, lesions, rows, report = _made(folder, image_size, listing, masks)
    groups = duplicate_groups(images).tolist()
    records = [dataclasses.replace(row.record, group=group) for row, group in zip(rows, groups, strict=True)]
    return write_store(path, images, lesions, records, report)


def _made(
    folder: Path, side: int, listing: Listing, settings: MaskSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[_Row], IngestReport]:
    """The store's two arrays, its rows and its report."""
    rejected = list(listing.rejected)
    summaries = _each(lambda pair: _summarise(folder, pair), listing.pairs, rejected)
    pairs = [pair for pair, summary in zip(listing.pairs, summaries, strict=True) if summary is not None]
    masks = [summary for summary in summaries if summary is not None]
    if not masks:
        raise _no_usable_pair(folder, listing, rejected)
    rule = MaskRule.of(masks, settings)
    if not any(map(rule.shows_lesion, masks)) and rule.given:
        values = np.unique(np.concatenate([rule.histogram(mask).values for mask in masks])).tolist()
        given = spans(settings.values)
        raise UsageError(f"no mask in {folder} has a value of {given}, named as lesion; there are {spans(values)}")
    if not settings.as_they_are:
        check_values(folder, dict(zip(pairs, masks, strict=True)), rule)

    images = np.empty((len(pairs), side, side, 3), np.uint8)
    lesions = np.empty((len(pairs), side, side), np.uint8)

    def load(row: int) -> _Row:
        fault = "" if settings.as_they_are else rule.fault(masks[row])
        if fault or not rule.shows_lesion(masks[row]):
            raise Unusable(pairs[row].mask, fault or rule.no_lesion(masks[row]))
        return _load(folder, pairs[row], rule, masks[row], images[row], lesions[row])

    rows = _each(load, range(len(pairs)), rejected)
    loaded = [row for row in rows if row is not None]
    if not loaded:
        raise _no_usable_pair(folder, listing, rejected)
    if not settings.as_they_are:
        check_lesions(folder, [row.shown for row in loaded])
    if len(loaded) < len(pairs):
        used = [row is not None for row in rows]
        images, lesions = images[used], lesions[used]
    rejected.sort(key=lambda rejection: rejection.file)
    notes = _notes(rule, loaded, settings)
    return images, lesions, loaded, IngestReport(len(loaded), tuple(rejected), notes)


def _each(do: Callable[[T], R], these: Sequence[T], rejected: list[Rejection]) -> list[R | None]:
    """What `do` makes of each of `these`, in parallel; None, and an entry in `rejected`, where it cannot be used."""

    def attempt(one: T) -> R | Rejection:
        try:
            return do(one)
        except Unusable as unusable:
            return unusable.rejection

    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(attempt, these))
    rejected += [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    return [None if isinstance(outcome, Rejection) else outcome for outcome in outcomes]


def _summarise(folder: Path, pair: Pair) -> Summary:
    header = look(pair.mask, read(folder, pair.mask))
    with room_for(header):
        return Summary.of(decode_mask(header))


def _load(
    folder: Path,
    pair: Pair,
    rule: MaskRule,
    summary: Summary,
    image_row: NDArray[np.uint8],
    mask_row: NDArray[np.uint8],
) -> _Row:
    """Fills one row of the store's arrays."""
    side = mask_row.shape[0]
    image_file, mask_file = (look(file, read(folder, file)) for file in (pair.image, pair.mask))
    with room_for(image_file, mask_file):
        mask = decode_mask(mask_file)
        mask = Picture(rule.lesion(summary, mask), mask.orientation)
        try:
            pixels, lesion = lying_alike(decode_image(image_file), mask)
        except Undecidable as error:
            raise Unusable(pair.mask, str(error)) from None
        image_row[:] = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        mask_row[:] = cv2.resize(lesion, (side, side), interpolation=cv2.INTER_AREA) >= 128
        (height, width), count = lesion.shape, np.count_nonzero(lesion)
    if not mask_row.any():
        too_small = f"the lesion is too small: of its {count} pixels none is left at {side}x{side}"
        raise Unusable(pair.mask, too_small if count else "no lesion: no pixel has one of the colours given")
    record = ImageRecord(
        id=pair.stem,
        source=printable(folder.name),
        look=-1,
        height=height,
        width=width,
        lesion_fraction=float(mask_row.mean()),
        tone=colour_tone(image_row),
        group=-1,
        sha256=hashlib.sha256(image_file.content + mask_file.content).hexdigest(),
    )
    shown = Shown.of(pair, lesion, image_row, mask_row)
    return _Row(record, shown, image_file.orientation > 1 or mask_file.orientation > 1)


def _notes(rule: MaskRule, rows: Sequence[_Row], settings: MaskSettings) -> tuple[str, ...]:
    notes = [f"masks {rule}"]
    if tagged := sum(row.tagged for row in rows):
        have = "1 pair has one" if tagged == 1 else f"{tagged} pairs have one"
        notes.append(f"EXIF orientation: {have}; sizes and tags told how mask and image lie")
    shown = [row.shown for row in rows]
    if not settings.as_they_are:
        notes += doubts_of_masks(shown)
    return (*notes, *doubts_of_images(shown))


def _no_usable_pair(folder: Path, listing: Listing, rejected: list[Rejection]) -> UsageError:
    counts = " and ".join(f"{sum(file.part == part for file in listing.files)} in {part}/" for part in PARTS)
    rejected.sort(key=lambda rejection: rejection.file)
    reasons = "; ".join(f"{rejection.file}: {rejection.reason}" for rejection in rejected[:3])
    found = f"{counts} ({reasons})" if reasons else counts
    return UsageError(f"no usable pair in {printable(str(folder))}: looked for {WANTED}, found {found}")
