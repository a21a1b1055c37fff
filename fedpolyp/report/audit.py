"""audit.html: an audit's findings, with pictures, on one page that needs no other file; audit.csv beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedpolyp import __version__
from fedpolyp.cells import csv_text, guarded
from fedpolyp.data.audit.audit import Audit
from fedpolyp.data.audit.findings import Finding, Kind, Weight
from fedpolyp.data.audit.frame import Box
from fedpolyp.data.reading import Unusable, silent_decoders
from fedpolyp.errors import UsageError
from fedpolyp.files import write_text
from fedpolyp.report.gallery import outline, picture
from fedpolyp.report.templates import template
from fedpolyp.text import printable

PAGE, TABLE = "audit.html", "audit.csv"
_PICTURED = 24  # findings of a kind; all are in the table
_LISTED = 200  # files of a kind
_SIDE = 256  # pixels


@dataclass(frozen=True)
class Shot:
    """An image with its mask's outline; without a picture if it cannot be read any more."""

    id: str
    picture: str  # a data URI; '' for none
    outline: str  # an SVG path in a box of 100 by 100
    boxes: tuple[Box, ...]  # around the finding
    shape: float  # width by height


@dataclass(frozen=True)
class Section:
    """The findings of one kind."""

    kind: Kind
    count: int
    shots: tuple[tuple[Finding, tuple[Shot, ...]], ...]
    plain: tuple[Finding, ...]  # those without pictures


def write_audit(folder: Path, found: Audit) -> Path:
    """Write audit.csv and, last, audit.html into `folder`; returns the page's path.

    Raises:
        UsageError: `folder` cannot be written.
    """
    try:
        write_text(folder / TABLE, _table(found.findings))
        write_text(folder / PAGE, _page(found))
    except OSError as error:
        raise UsageError(f"cannot write the audit into {folder}: {error.strerror or error}") from None
    return folder / PAGE


def verdict(found: Audit) -> str:
    """The audit's result, in a sentence."""
    faults, looks = found.of(Weight.FAULT), found.of(Weight.LOOK)
    images = "1 image" if len(found.seen) == 1 else f"{len(found.seen):,} images"
    text = f"{_many(len(faults), 'fault') if faults else 'No fault'} found in {images}"
    return text + (f", and {_many(len(looks), 'finding')} to judge by eye." if looks else ".")


def counts(findings: Iterable[Finding]) -> dict[Kind, int]:
    """The number of findings of each kind that occurs."""
    every = [finding.kind for finding in findings]
    return {kind: every.count(kind) for kind in Kind if kind in every}


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _table(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        first, second = (*finding.ids, "", "")[:2]
        named = (guarded(printable(one)) for one in (first, second, finding.file))
        value = "" if finding.value is None else f"{finding.value:.4g}"
        rows.append((finding.kind.label, finding.kind.weight.value, *named, value, guarded(printable(finding.said))))
    return csv_text(("kind", "weight", "id", "other_id", "file", "value", "said"), rows)


def _page(found: Audit) -> str:
    shots = _Shots(found)
    with silent_decoders():
        sections = [_section(kind, found, shots) for kind in counts(found.findings)]
        worst = [(shots.of(id), found.lesions[id].edge) for id in found.worst_edges()]
    return template("audit.html").render(
        audit=found,
        verdict=verdict(found),
        sections=sections,
        searched=[kind for kind in Kind if kind not in counts(found.findings)],
        worst=worst,
        source=found.source.name,
        rejected=() if found.ingest is None else found.ingest.rejected,
        table=TABLE,
        version=__version__,
    )


def _section(kind: Kind, found: Audit, shots: "_Shots") -> Section:
    own = [finding for finding in found.findings if finding.kind is kind]
    pictured = [finding for finding in own if finding.ids][:_PICTURED]
    return Section(
        kind,
        len(own),
        tuple((finding, tuple(shots.of(id, kind) for id in finding.ids)) for finding in pictured),
        tuple(finding for finding in own if not finding.ids)[:_LISTED],
    )


class _Shots:
    """The pictures of an audit, each made once."""

    def __init__(self, found: Audit) -> None:
        self._found = found
        self._seen = {one.files.id: one for one in found.seen}
        self._made: dict[str, tuple[str, str]] = {}

    def of(self, id: str, kind: Kind | None = None) -> Shot:
        seen = self._seen[id]
        if id not in self._made:
            try:
                image, mask = self._found.show(id)
                self._made[id] = picture(image, _SIDE), outline(mask)
            except Unusable:
                self._made[id] = "", ""
        boxes = {Kind.TEXT: seen.texts, Kind.INSET: seen.insets}.get(kind, ()) if kind else ()
        return Shot(id, *self._made[id], boxes, seen.width / seen.height)
