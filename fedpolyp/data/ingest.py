"""Ingest: turns sources of images and masks into one store, and names the reason for every pair that it cannot use."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.alike import SIDE, Looks, alike
from fedpolyp.data.duplicates import duplicate_groups, paired, united
from fedpolyp.data.levels import spans
from fedpolyp.data.masks import UNSAID, MaskRule, MaskSettings, Summary
from fedpolyp.data.orientation import Undecidable, lying_alike
from fedpolyp.data.pairs import Listing, Pair
from fedpolyp.data.plausibility import (
    Shown,
    check_empty,
    check_lesions,
    check_values,
    doubts_of_images,
    doubts_of_masks,
)
from fedpolyp.data.reading import (
    Header,
    Picture,
    Unusable,
    attempted,
    decode_image,
    decode_mask,
    look,
    read,
    room_for,
    silent_decoders,
)
from fedpolyp.data.sources import Listed, list_source
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

VERSION = 9  # part of a store's key: raise it whenever the same files would give a different store

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class _Source:
    """A source whose masks were read, so that it is decided what is lesion in them."""

    name: str  # begins its ids, and names it in messages; '' for the only one
    folder: Path
    called: str  # in its images' records
    pairs: Sequence[Pair]
    masks: Sequence[Summary | None]  # of each pair; None for a frame without a mask
    rule: MaskRule
    rejected: list[Rejection]
    notes: tuple[str, ...]

    def id(self, pair: Pair) -> str:
        """The id of one of its images in the store."""
        return f"{self.name}/{pair.id}" if self.name else pair.id

    def fault(self, mask: Summary, settings: MaskSettings) -> str:
        """Why one of its masks is not used; '' if it is used, with or without a lesion."""
        fault = "" if settings.as_they_are else self.rule.fault(mask)
        if fault or self.rule.shows_lesion(mask) or self.rule.is_empty(mask):
            return fault
        return self.rule.no_lesion(mask)


@dataclasses.dataclass(frozen=True)
class _Row:
    """One pair in the store's arrays; the record's group is not known yet."""

    record: ImageRecord
    shown: Shown
    tagged: bool  # by EXIF, image or mask
    labels: tuple[str, ...]  # of patient, procedure or video
    patient: str  # the one that names the patient; '' if none does
    looks: Looks


@dataclasses.dataclass(frozen=True, eq=False)
class Original:
    """An image and its lesion mask, at their own size."""

    id: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    lesion: NDArray[np.uint8]  # (H, W) in {0, 1}


def ingest(
    place: str | Path,
    image_size: int,
    stores: Path | None = None,
    masks: MaskSettings = UNSAID,
    group_by: str | None = None,
) -> Store:
    """The store of one source (see `list_source`), with the ids of that source.

    Raises:
        UsageError, FedpolypError: as `ingest_all`.
    """
    return ingest_all({"": place}, image_size, stores, masks, group_by)


def ingest_all(
    places: Mapping[str, str | Path],
    image_size: int,
    stores: Path | None = None,
    masks: MaskSettings = UNSAID,
    group_by: str | None = None,
) -> Store:
    """The store of the pairs of several sources at `image_size` pixels a side; it is made if it does not exist.

    The keys of `places` are the names of the sources, which begin the ids: 'kvasir/…'; a name of '' adds nothing.
    `stores` is the folder of all stores, `stores_folder()` unless given. Records are in the order of their ids. What is
    lesion is decided for each source separately. Duplicate groups reach across all sources, and also join images that
    share a label. The store's report lists the pairs that cannot be used, and the values that count as lesion.

    Raises:
        UsageError: a source has no known layout, no usable pair, or masks that look wrong although `masks` does not
            accept such masks.
        FedpolypError: the store cannot be written, or the existing one cannot be opened.
    """
    listed = {name: list_source(place, group_by, stores) for name, place in places.items()}
    pairs = (pair for one in listed.values() for pair in one.listing.pairs)
    if group_by is not None and not any(re.search(group_by, pair.id) for pair in pairs):
        raise UsageError(f"group_by '{printable(group_by)}' finds nothing in the name of any image")
    known = [[name, str(one.root), dataclasses.astuple(one.listing)] for name, one in listed.items()]
    key = [VERSION, image_size, known, dataclasses.astuple(masks)]
    called = "+".join(name or one.name for name, one in listed.items())
    path = store_path(stores or stores_folder(), called, image_size, key)
    if path.exists():
        return Store.open(path)
    with silent_decoders():
        images, lesions, rows, report = _made(image_size, listed, masks)
        # Not of the store's images: what belongs together, and is one unit of privacy, must not depend on their size.
        looks = [row.looks for row in rows]
        groups = paired(duplicate_groups(np.array([one.thumbnail for one in looks])), alike(looks))
    groups = united(groups, [row.labels for row in rows])
    patients: dict[str, int] = {}
    for at, row in enumerate(rows):
        patients.setdefault(row.patient, at)
    records = [
        dataclasses.replace(row.record, group=group, patient=patients[row.patient] if row.patient else -1)
        for row, group in zip(rows, groups.tolist(), strict=True)
    ]
    return write_store(path, images, lesions, records, report)


def _made(
    side: int, listed: Mapping[str, Listed], settings: MaskSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[_Row], IngestReport]:
    """The store's two arrays, its rows and its report."""
    sources = [_decided(name, one, settings) for name, one in listed.items()]
    all_pairs = sorted(
        ((source, at) for source in sources for at in range(len(source.pairs))),
        key=lambda one: one[0].id(one[0].pairs[one[1]]),
    )
    images = np.empty((len(all_pairs), side, side, 3), np.uint8)
    lesions = np.empty((len(all_pairs), side, side), np.uint8)

    def load(row: int) -> _Row:
        source, at = all_pairs[row]
        pair, mask = source.pairs[at], source.masks[at]
        if mask is not None and (fault := source.fault(mask, settings)):
            raise Unusable(pair.mask, fault)
        return _load(source, pair, mask, images[row], lesions[row])

    failed: dict[int, Rejection] = {}
    rows = _each(load, range(len(all_pairs)), failed)
    for row, rejection in failed.items():
        all_pairs[row][0].rejected.append(rejection)
    notes: list[str] = []
    rejected: list[Rejection] = []
    for source in sources:
        own = [row for row, (of, _) in zip(rows, all_pairs, strict=True) if row is not None and of is source]
        if not own:
            raise _no_usable_pair(listed[source.name], source.rejected)
        if not settings.as_they_are:
            check_lesions(source.folder, [row.shown for row in own])
        name = source.name
        notes += [f"{name}: {note}" if name else note for note in _notes(source, own, settings)]
        rejected += [Rejection(f"{name}/{one.file}" if name else one.file, one.reason) for one in source.rejected]
    loaded = [row for row in rows if row is not None]
    if len(loaded) < len(rows):
        used = [row is not None for row in rows]
        images, lesions = images[used], lesions[used]
    rejected.sort(key=lambda rejection: rejection.file)
    return images, lesions, loaded, IngestReport(len(loaded), tuple(rejected), tuple(notes))


def _decided(name: str, listed: Listed, settings: MaskSettings) -> _Source:
    """A source, after all of its masks were read."""
    folder, listing, rejected = listed.root, listed.listing, list(listed.listing.rejected)
    failed: dict[int, Rejection] = {}
    with_mask = [pair for pair in listing.pairs if pair.mask]
    summaries = _each(lambda at: _summarise(folder, with_mask[at]), range(len(with_mask)), failed)
    rejected += failed.values()
    found = dict(zip(with_mask, summaries, strict=True))
    pairs = [pair for pair in listing.pairs if not pair.mask or found[pair] is not None]
    if not pairs:
        raise _no_usable_pair(listed, rejected)
    of_masks = {pair: summary for pair, summary in found.items() if summary is not None}
    rule = MaskRule.of(list(of_masks.values()), settings)
    if of_masks and not any(map(rule.shows_lesion, of_masks.values())) and rule.given:
        values = np.unique(np.concatenate([rule.histogram(mask).values for mask in of_masks.values()])).tolist()
        given = spans(settings.values)
        raise UsageError(f"no mask in {folder} has a value of {given}, named as lesion; there are {spans(values)}")
    if of_masks and not settings.as_they_are:
        check_values(folder, of_masks, rule)
        check_empty(folder, of_masks, rule)
    masks = [of_masks.get(pair) for pair in pairs]
    return _Source(name, folder, name or printable(listed.name), pairs, masks, rule, rejected, listing.notes)


def _each(do: Callable[[int], R], these: Sequence[int], failed: dict[int, Rejection]) -> list[R | None]:
    """What `do` returns for each of `these`, in parallel; None, and an entry in `failed`, for those that cannot be
    used.
    """
    outcomes = attempted(do, these)
    failed.update({at: one for at, one in zip(these, outcomes, strict=True) if isinstance(one, Rejection)})
    return [None if isinstance(outcome, Rejection) else outcome for outcome in outcomes]


def _summarise(folder: Path, pair: Pair) -> Summary:
    header = look(pair.mask, read(folder, pair.mask))
    with room_for(header):
        return Summary.of(decode_mask(header))


def originals(
    places: Mapping[str, str | Path],
    wanted: Collection[str],
    masks: MaskSettings = UNSAID,
    stores: Path | None = None,
) -> Iterator[Original]:
    """The pairs with the ids `wanted` at their own size, in the order of the sources and of the ids in each.

    What is lesion is decided as for `ingest_all`, which must have accepted these pairs.

    Raises:
        UsageError: as `ingest_all`.
        Unusable: a file has changed, and cannot be used any more.
    """
    for name, place in places.items():
        with silent_decoders():
            source = _decided(name, list_source(place, stores=stores), masks)
        for pair, summary in zip(source.pairs, source.masks, strict=True):
            if (id := source.id(pair)) in wanted:
                files = [look(file, read(source.folder, file)) for file in (pair.image, pair.mask) if file]
                with room_for(*files), silent_decoders():
                    pixels, lesion = _decoded(source, pair, summary, files)
                yield Original(id, np.asarray(pixels, np.uint8), (lesion >= 128).astype(np.uint8))


def _decoded(
    source: _Source, pair: Pair, summary: Summary | None, files: Sequence[Header]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, (H, W, 3), and its lesion, (H, W) in {0, 255}; without a mask everything is background."""
    image = decode_image(files[0])
    if summary is None:
        mask = Picture(np.zeros(image.pixels.shape[:2], np.uint8), image.orientation)
    else:
        mask = decode_mask(files[1])
        mask = Picture(source.rule.lesion(summary, mask), mask.orientation)
    try:
        return lying_alike(image, mask)
    except Undecidable as error:
        raise Unusable(pair.mask, str(error)) from None


def _load(
    source: _Source, pair: Pair, summary: Summary | None, image_row: NDArray[np.uint8], mask_row: NDArray[np.uint8]
) -> _Row:
    """Fills one row of the store's arrays."""
    side = mask_row.shape[0]
    files = [look(file, read(source.folder, file)) for file in (pair.image, pair.mask) if file]
    with room_for(*files):
        pixels, lesion = _decoded(source, pair, summary, files)
        looks = Looks.of(np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8))
        image_row[:] = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        mask_row[:] = cv2.resize(lesion, (side, side), interpolation=cv2.INTER_AREA) >= 128
        (height, width), count = lesion.shape, np.count_nonzero(lesion)
    if not mask_row.any() and summary is not None and (count or not source.rule.is_empty(summary)):
        too_small = f"the lesion is too small: of its {count} pixels none is left at {side}x{side}"
        raise Unusable(pair.mask, too_small if count else "no lesion: no pixel has one of the colours given")
    record = ImageRecord(
        id=source.id(pair),
        source=f"{source.called}-{printable(pair.center)}" if pair.center else source.called,
        look=-1,
        height=height,
        width=width,
        lesion_fraction=float(mask_row.mean()),
        tone=colour_tone(image_row),
        group=-1,
        sha256=hashlib.sha256(b"".join(file.content for file in files)).hexdigest(),
    )
    shown = Shown.of(pair, lesion, image_row, mask_row)
    labels = tuple(f"{source.name}/{label}" for label in pair.groups)
    patient = f"{source.name}/{pair.patient}" if pair.patient else ""
    return _Row(record, shown, any(file.orientation > 1 for file in files), labels, patient, looks)


def _notes(source: _Source, rows: Sequence[_Row], settings: MaskSettings) -> tuple[str, ...]:
    notes = [f"masks {source.rule}"] if any(pair.mask for pair in source.pairs) else []
    if tagged := sum(row.tagged for row in rows):
        have = "1 pair has one" if tagged == 1 else f"{tagged} pairs have one"
        notes.append(f"EXIF orientation: {have}; sizes and tags show how mask and image are oriented")
    shown = [row.shown for row in rows]
    if without := [one for one in shown if one.lesion_fraction == 0]:
        notes.append(f"{len(without)} of {len(shown)} are frames without a polyp (first: {without[0].file})")
    if not settings.as_they_are:
        notes += doubts_of_masks(shown)
    return (*notes, *doubts_of_images(shown), *source.notes)


def _no_usable_pair(listed: Listed, rejected: list[Rejection]) -> UsageError:
    listing: Listing = listed.listing
    counts = " and ".join(
        f"{sum(file.folder == folder for file in listing.files)} in {folder or '.'}/" for folder in listing.folders[:6]
    )
    rejected.sort(key=lambda rejection: rejection.file)
    reasons = "; ".join(f"{rejection.file}: {rejection.reason}" for rejection in rejected[:3])
    found = f"{counts or 'no pair'} ({reasons})" if reasons else counts or "no pair"
    return UsageError(f"no usable pair in {printable(str(listed.root))}: read as {listing.layout}, found {found}")
