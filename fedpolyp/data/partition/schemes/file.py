"""`file`: a partition that was made elsewhere, as a CSV of id, hospital and, optionally, set."""

import csv
import io
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import SETS, Rows, Scheme
from fedpolyp.errors import UsageError
from fedpolyp.files import read_bytes
from fedpolyp.names import check_hospital, shown, shown_few
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord

HELD_OUT, LEFT_OUT = "held-out", "left-out"
_MOST_BYTES = 64 * 1024**2


class File(Scheme):
    """Follows the file row by row, also where it divides near-duplicates.

    Without a column of sets, the held-out set is drawn and each hospital's images are split as usual. With it, each row
    has one of train, val, test, held-out and left-out; the last two need no hospital.
    """

    sets_count = True
    paths = ("csv",)

    class Settings(Section):
        """Of `[hospitals]`."""

        csv: str | None = Field(None, description="file: CSV with the columns id, hospital and, if wanted, set")

    def key(self, record: "ImageRecord") -> Hashable:
        """Near-duplicates stay together where the file leaves it open."""
        return record.group, self._rows[record.id]

    def held_out(self, records: Sequence["ImageRecord"]) -> "tuple[tuple[str, ...], list[ImageRecord]] | None":
        """See `Scheme`; the file must name every image, and nothing else."""
        present = {record.id for record in records}
        if unknown := self._rows.keys() - present:
            raise UsageError(
                f"{self._path} names {len(unknown)} ids that are not among the images to assign: {shown_few(unknown)}"
            )
        if missing := present - self._rows.keys():
            raise UsageError(
                f"{self._path} does not name {len(missing)} of the {len(present)} images: {shown_few(missing)}; give "
                f"each a row, with the set {LEFT_OUT} to give an image to nobody"
            )
        if not self._has_sets:
            return None
        heldout = sorted(id for id, (_, set) in self._rows.items() if set == HELD_OUT)
        if not heldout:
            raise UsageError(f"{self._path} has a column 'set', but no image of the set {HELD_OUT}")
        return tuple(heldout), [record for record in records if self._rows[record.id][1] in SETS]

    def names(self, groups: Groups, count: int) -> tuple[str, ...]:
        """See `Scheme`."""
        return tuple(sorted({self._rows[ids[0]][0] for ids in groups.images}))

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        place = {name: number for number, name in enumerate(self.names(groups, hospitals))}
        return np.array([place[self._rows[ids[0]][0]] for ids in groups.images], dtype=np.intp)

    def sets(self, groups: Groups) -> Rows | None:
        """See `Scheme`."""
        if not self._has_sets:
            return None
        return np.array([SETS.index(self._rows[ids[0]][1]) for ids in groups.images], dtype=np.intp)

    @property
    def _path(self) -> Path:
        if self.settings.csv is None:
            raise UsageError(
                "the scheme file needs a file: --csv FILE, with the columns id, hospital and, if wanted, set"
            )
        return Path(self.settings.csv)

    @property
    def _has_sets(self) -> bool:
        return any(set for _, set in self._rows.values())

    @cached_property
    def _rows(self) -> dict[str, tuple[str, str]]:
        """Hospital and set, '' for none, by image."""
        try:
            table = csv.DictReader(io.StringIO(read_bytes(self._path, _MOST_BYTES).decode("utf-8-sig"), newline=""))
            heads, lines = table.fieldnames or [], list(table)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not a CSV in UTF-8"
            raise UsageError(f"cannot read the partition {self._path}: {why}") from None
        if not {"id", "hospital"} <= set(heads):
            raise UsageError(f"{self._path} must have the columns id and hospital; it has {', '.join(heads) or 'none'}")
        rows: dict[str, tuple[str, str]] = {}
        repeated: Counter[str] = Counter()
        for number, line in enumerate(lines, 2):
            id, hospital, of = ((line.get(name) or "").strip() for name in ("id", "hospital", "set"))
            self._check(number, hospital, of, "set" in heads)
            repeated[id] += 1
            rows[id] = hospital, of
        if twice := {id for id, count in repeated.items() if count > 1}:
            raise UsageError(f"{self._path} names {len(twice)} images more than once: {shown_few(twice)}")
        return rows

    def _check(self, number: int, hospital: str, of: str, has_sets: bool) -> None:
        """
        Raises:
            UsageError: such a row is not allowed.
        """
        allowed = (*SETS, HELD_OUT, LEFT_OUT) if has_sets else ("",)
        where = f"line {number} of {self._path}"
        if of not in allowed:
            raise UsageError(f"{where}: the set must be one of {', '.join(allowed)}; got {shown(of)}")
        if of in (HELD_OUT, LEFT_OUT):
            return
        try:
            check_hospital(hospital)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
