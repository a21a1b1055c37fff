"""Audits a folder: each pair, all pairs together, and the sets of a partition against each other."""

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from fedpolyp.data.alike import Alike, alike
from fedpolyp.data.audit.findings import Finding, Kind, Weight
from fedpolyp.data.audit.frame import Image
from fedpolyp.data.audit.pair import Files, Lesion, Seen, measure, see, show
from fedpolyp.data.ingest import ingest
from fedpolyp.data.masks import UNSAID, MaskRule, MaskSettings
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.pruning import stores_in
from fedpolyp.data.reading import attempted, silent_decoders
from fedpolyp.data.sources import Listed, list_source
from fedpolyp.data.store import IngestReport, Rejection, Store, stores_folder
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.names import shown
from fedpolyp.text import printable

EDGE = 1.2  # 20 of Kvasir-SEG's masks have a median above it, 20 masks of other images one below
_SHAPED = 64 / 256**2  # of the image: smaller lesions may be alike by chance
EDGE_MASKS = 20  # fewest masks for a median
WORST = 12  # number of masks shown for their edges
_FULL, _BORDER, _BEYOND = 0.995, 0.5, 0.02
_PIXELS, _SHAPE = 4.0, 1.6  # factors of the median beyond which a size is unusual
_INGESTED_SIDE = 64  # pixels, of the temporary store that shows what ingest says

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found in a folder."""

    source: Listed  # keeps what an archive was unpacked to
    seen: tuple[Seen, ...]  # the pairs that could be looked at, in the order of their ids
    lesions: dict[str, Lesion]  # by id, where the mask is understood and fits its image
    findings: tuple[Finding, ...]  # in the order of their kinds
    ingest: IngestReport | None  # what ingest makes of the folder; None where it refuses
    refusal: str  # why ingest refuses; '' if it does not
    edge: float | None  # the median over the masks; None where there are too few
    compared_with: str  # the store with which the files were compared; '' for none
    sets: int  # of the partition; 0 without one
    rule: MaskRule | None = field(repr=False, default=None)  # None if there is no mask

    def of(self, *weights: Weight) -> list[Finding]:
        """The findings of these weights."""
        return [finding for finding in self.findings if finding.kind.weight in weights]

    @property
    def folder(self) -> Path:
        """The folder to which the files' paths are relative."""
        return self.source.root

    def show(self, id: str) -> tuple[Image, Image]:
        """The image and mask of `id`: uint8 (256, 256, 3) RGB, and (256, 256) in {0, 1}.

        Raises:
            Unusable: they cannot be read any more.
        """
        seen = next(one for one in self.seen if one.files.id == id)
        return show(self.folder, seen, self.rule)

    def worst_edges(self) -> list[str]:
        """The images whose masks follow their edges least, the worst first."""
        known = {id: lesion.edge for id, lesion in self.lesions.items() if lesion.edge is not None}
        return sorted(known, key=lambda id: (known[id], id))[:WORST]


def audit(
    place: str | Path,
    partition: Partition | None = None,
    masks: MaskSettings = UNSAID,
    stores: Path | None = None,
    group_by: str | None = None,
    name: str = "",
) -> Audit:
    """Look for faults at `place` (see `list_source`), and between the sets of `partition`; changes nothing.

    `stores`, `stores_folder()` unless given, is the folder in which a store of these images is looked for. In a run of
    several sources, `name` is that of the source; ids in the partition and the store begin with it. Takes about two
    minutes of one core for a thousand images.

    Raises:
        UsageError: `place` has no known layout, or no pair of an image and a mask in it can be read.
    """
    stores = stores or stores_folder()
    source = list_source(place, group_by, stores)
    folder, listing = source.root, source.listing
    rejected = list(listing.rejected)
    with silent_decoders():
        pairs = [Files(pair.id, pair.image, pair.mask, pair.groups) for pair in listing.pairs]
        seen = _each(lambda pair: see(folder, pair), pairs, rejected)
        if not seen:
            reasons = "; ".join(f"{one.file}: {one.reason}" for one in rejected[:3])
            raise UsageError(f"no pair of an image and a mask can be read in {printable(str(place))} ({reasons})")
        summaries = [one.summary for one in seen if one.summary is not None]
        rule = MaskRule.of(summaries, masks) if summaries else None
        lesions = dict(_each(lambda one: _measured(folder, one, rule), seen, rejected))
        report, refusal = _ingested(place, masks)
    pairs_alike = alike([one.looks for one in seen])
    edges = [lesion.edge for lesion in lesions.values() if lesion.edge is not None]
    edge = float(np.median(edges)) if len(edges) >= EDGE_MASKS else None
    called = name or printable(source.name)
    records = {called, *(f"{called}-{printable(pair.center)}" for pair in listing.pairs)}
    compared_with, changed = _changed(f"{name}/" if name else "", records, seen, stores)
    sets = {} if partition is None else _sets(partition, seen, name)
    findings = [
        *(Finding(Kind.UNUSABLE, one.reason, file=one.file) for one in sorted(rejected, key=lambda one: one.file)),
        *changed,
        *_same(seen, pairs_alike, sets),
        *_same_masks(seen, pairs_alike, lesions),
        *_together(seen, sets),
        *_masks(seen, lesions, rule),
        *_edges(edge, len(edges)),
        *_frames(seen),
        *_sizes(seen),
    ]
    order = list(Kind)
    findings.sort(key=lambda finding: order.index(finding.kind))
    count = 0 if partition is None else 1 + 3 * len(partition.hospitals)
    return Audit(source, tuple(seen), lesions, tuple(findings), report, refusal, edge, compared_with, count, rule)


def _each(do: Callable[[T], R], these: Sequence[T], rejected: list[Rejection]) -> list[R]:
    """What `do` returns for each of `these`, in parallel; unusable ones are in `rejected`."""
    outcomes = attempted(do, these)
    rejected += [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    return [outcome for outcome in outcomes if not isinstance(outcome, Rejection)]


def _measured(folder: Path, seen: Seen, rule: MaskRule | None) -> tuple[str, Lesion]:
    return seen.files.id, measure(*show(folder, seen, rule))


def _ingested(place: str | Path, masks: MaskSettings) -> tuple[IngestReport | None, str]:
    """The ingest report of the folder, and why ingest refuses it if it does."""
    with tempfile.TemporaryDirectory(prefix="fedpolyp-audit-") as stores:  # only this user can read it
        try:
            return ingest(place, _INGESTED_SIDE, Path(stores), masks).report, ""
        except UsageError as error:
            return None, str(error)


def _changed(begin: str, called: Set[str], seen: Sequence[Seen], stores: Path) -> tuple[str, list[Finding]]:
    """The name of the last used store of this source, and the files that differ from it; '' if there is none.

    `called` are the names that the source has in stores; the ids there begin with `begin`.
    """
    now = {one.files.id: one.sha256 for one in seen}
    for found in sorted(stores_in(stores), key=lambda found: -found.used):
        with suppress(FedpolypError):  # damaged stores cannot be compared with
            store = Store.open(found.path)
            known = {
                record.id.removeprefix(begin): record.sha256 for record in store.records if record.source in called
            }
            common = now.keys() & known.keys()
            if 2 * len(common) > max(len(known), len(now)):
                differ = sorted(id for id in common if now[id] != known[id])
                said = "image or mask has changed since it was ingested"
                return found.path.name, [Finding(Kind.CHANGED, said, (id,)) for id in differ]
    return "", []


def _sets(partition: Partition, seen: Sequence[Seen], name: str) -> dict[str, str]:
    """The set of each image, by its id in the folder; ids in the partition begin with the source's `name`.

    Raises:
        UsageError: no image of the partition is in the folder.
    """
    known = {f"{name}/{one.files.id}" if name else one.files.id: one.files.id for one in seen}
    named: dict[str, Sequence[str]] = {"the held-out set": partition.heldout}
    for hospital, images in partition.hospitals.items():
        for part, ids in (("training", images.train), ("validation", images.val), ("test", images.test)):
            named[f"{part} at {hospital}"] = ids
    sets = {known[id]: place for place, members in named.items() for id in members if id in known}
    if not sets:
        first = shown(next(iter(itertools.chain.from_iterable(named.values())), ""))
        raise UsageError(
            f"none of the partition's images is in the folder; its first is {first}, the folder's "
            f"{shown(next(iter(known)))}; if the images of the run have a source's name, give --data NAME=FOLDER"
        )
    return sets


def _same(seen: Sequence[Seen], pairs: Sequence[Alike], sets: dict[str, str]) -> Iterable[Finding]:
    """Equal files, equal scenes, images that only look similar, and which of them are in two sets."""
    by_hash: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_hash[one.image_sha256].append(one)
    exact = [group for group in by_hash.values() if len(group) > 1]
    told = set()
    for group in exact:
        for first, second in itertools.combinations(group, 2):
            ids = first.files.id, second.files.id
            told.add(ids)
            masks = "and so have their masks" if first.sha256 == second.sha256 else "but their masks differ"
            yield from _twice(Kind.SAME_FILE, f"the images have the same bytes, {masks}", ids, 1.0, sets)
    for pair in pairs:
        ids = seen[pair.first].files.id, seen[pair.second].files.id
        if ids in told:
            continue
        said = f"correlation {pair.correlation:.3f}, {pair.places} points match"
        if pair.confirmed:
            yield from _twice(Kind.SAME_SCENE, said, ids, pair.correlation, sets)
        else:
            yield Finding(Kind.ALIKE, said, ids, pair.correlation)


def _same_masks(seen: Sequence[Seen], pairs: Sequence[Alike], lesions: dict[str, Lesion]) -> Iterable[Finding]:
    """Equal masks of images that are not known to show the same."""
    scenes = {(seen[pair.first].files.id, seen[pair.second].files.id) for pair in pairs}
    by_shape: dict[bytes, list[Seen]] = defaultdict(list)
    for one in seen:
        lesion = lesions.get(one.files.id)
        if lesion is not None and _SHAPED <= lesion.fraction <= _FULL:
            by_shape[lesion.shape].append(one)
    for group in by_shape.values():
        for first, second in itertools.combinations(group, 2):
            ids = first.files.id, second.files.id
            if ids not in scenes and first.image_sha256 != second.image_sha256:
                yield Finding(Kind.SAME_MASK, "the images differ", ids)


def _twice(kind: Kind, said: str, ids: tuple[str, str], value: float, sets: dict[str, str]) -> Iterable[Finding]:
    yield Finding(kind, said, ids, value)
    first, second = (sets.get(id) for id in ids)
    if first and second and first != second:
        yield Finding(Kind.LEAK, f"{first}, and {second} ({said})", ids, value)


def _together(seen: Sequence[Seen], sets: dict[str, str]) -> Iterable[Finding]:
    """Patients, procedures and videos with images in two sets; the first image of each stands for it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for one in seen:
        for label in one.files.groups:
            if name := sets.get(one.files.id):
                found[label].setdefault(name, one.files.id)
    for label, firsts in found.items():
        for (first, id), (second, other) in itertools.combinations(firsts.items(), 2):
            yield Finding(Kind.LEAK, f"{first}, and {second} (both have images of {shown(label)})", (id, other))


def _masks(seen: Sequence[Seen], lesions: dict[str, Lesion], rule: MaskRule | None) -> Iterable[Finding]:
    for one in seen:
        id, summary, lesion = (one.files.id,), one.summary, lesions.get(one.files.id)
        if summary is None or rule is None:  # a frame without a mask, as it should be
            continue
        if fault := rule.fault(summary):
            yield Finding(Kind.GREY, fault, id)
        elif not rule.shows_lesion(summary):
            why = "every pixel is background" if rule.is_empty(summary) else rule.no_lesion(summary)
            yield Finding(Kind.GREY if why.startswith(("unknown", "no lesion")) else Kind.EMPTY, why, id)
        elif lesion is None:  # reported among the files that cannot be used
            continue
        elif lesion.fraction == 0:
            yield Finding(Kind.EMPTY, "the lesion is too small to be seen at 256 pixels", id)
        elif lesion.fraction > _FULL:
            yield Finding(Kind.FULL, f"{lesion.fraction:.1%} of the image is lesion", id, lesion.fraction)
        elif lesion.at_border > _BORDER:
            said = f"{lesion.at_border:.0%} of the outermost pixels are lesion, and {lesion.fraction:.0%} of the image"
            yield Finding(Kind.INVERTED, said, id, lesion.at_border)
        elif lesion.beyond > _BEYOND and not one.black:
            yield Finding(Kind.BEYOND, f"{lesion.beyond:.1%} of the lesion is outside", id, lesion.beyond)


def _edges(edge: float | None, count: int) -> Iterable[Finding]:
    if edge is not None and edge < EDGE:
        said = (
            f"along the outlines of {count} masks colours change {edge:.2f} times as much as beside them (median); of "
            f"masks that fit, more than {EDGE} times: masks may be moved, mirrored or mixed up"
        )
        yield Finding(Kind.EDGES, said, value=edge)


def _frames(seen: Sequence[Seen]) -> Iterable[Finding]:
    for one in seen:
        id = (one.files.id,)
        if one.black:
            yield Finding(Kind.DARK, "no pixel is brighter than 63 of 255", id)
        if one.texts:
            lines = "1 line" if len(one.texts) == 1 else f"{len(one.texts)} lines"
            yield Finding(Kind.TEXT, f"{lines} of text", id, len(one.texts))
        if one.insets:
            covered = sum((box.right - box.left) * (box.bottom - box.top) for box in one.insets)
            yield Finding(Kind.INSET, f"{covered:.0%} of the image", id, covered)


def _sizes(seen: Sequence[Seen]) -> Iterable[Finding]:
    pixels = np.array([one.width * one.height for one in seen], float)
    shapes = np.array([one.width / one.height for one in seen])
    usual, shape = np.median(pixels), np.median(shapes)
    for one, count, ratio in zip(seen, pixels / usual, shapes / shape, strict=True):
        if max(count, 1 / count) > _PIXELS or max(ratio, 1 / ratio) > _SHAPE:
            yield Finding(Kind.SIZE, f"{one.width}x{one.height} pixels", (one.files.id,), float(count))
