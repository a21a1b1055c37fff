"""A CSV that says which images belong together: image, mask and, if known, patient (procedure, video) and hospital."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.data.pairs import File, Pair, spelling
from fedpolyp.data.sources.tree import Tree, look_at, unfit_id
from fedpolyp.data.store import Rejection
from fedpolyp.errors import UsageError
from fedpolyp.files import read_bytes
from fedpolyp.text import printable

NAME = "a CSV"
NONE = "none"  # in the column of masks: a frame without a polyp
_BYTES = 64 * 1024**2
_NEEDED = ("image", "mask")
_WITHIN_A_HOSPITAL = ("patient", "procedure", "video")  # patient 1 of two hospitals is two people
# Written where a patient is not known. Such images stay together like those of any label, but nobody is protected as
# 'unknown': they may be of many patients.
_NOBODY = ("unknown", "none", "null", "n/a", "na", "nan", "-", "--", "?")
_LABELS = ("group", *_WITHIN_A_HOSPITAL)
_READ = (*_NEEDED, "id", "hospital", *_LABELS)


@dataclass(frozen=True)
class Table:
    """The contents of a CSV."""

    files: list[File]
    pairs: list[Pair]
    rejected: list[Rejection]
    notes: list[str]


def read_table(path: Path) -> Table:
    """The contents of the CSV at `path`; its paths are relative to its own folder, or absolute.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    rows, columns = _rows(path)
    if missing := [name for name in _NEEDED if name not in columns]:
        raise UsageError(
            f"{printable(str(path))} has no column {' and no column '.join(missing)}: looked for image, mask (a path, "
            f"or '{NONE}' for a frame without a polyp) and, where known, hospital and one of {', '.join(_LABELS)}; "
            f"found {printable(', '.join(columns), 200) or 'nothing'}"
        )
    labels = [name for name in _LABELS if name in columns]
    if len(labels) > 1:
        raise UsageError(
            f"{printable(str(path))} has columns {' and '.join(labels)}: only one of them may say which images stay "
            "together"
        )
    tree = Tree(path.parent)
    table = Table([], [], [], [])
    for number, row in rows:
        one = _pair(tree, row, number, labels[0] if labels else "", table.files)
        if isinstance(one, Pair):
            table.pairs.append(one)
        else:
            table.rejected.append(one)
    table.files.append(look_at(tree, path.name))
    if ignored := [name for name in columns if name not in _READ]:
        table.notes.append(f"columns of {printable(path.name)} that are not read: {printable(', '.join(ignored), 200)}")
    return table


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Each row by column, with the number of its line; and the columns."""
    try:
        text = read_bytes(path, _BYTES).decode("utf-8-sig")
        head = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or ("not text in UTF-8" if isinstance(error, ValueError) else error)
        raise UsageError(f"cannot read {printable(str(path))} as a CSV: {why}") from None
    columns = [cell.lower() for cell in lines[0][1]] if lines else []
    rows = [(number, dict(zip(columns, line, strict=False))) for number, line in lines[1:] if any(line)]
    return rows, [column for column in columns if column]


def _pair(tree: Tree, row: dict[str, str], number: int, label: str, files: list[File]) -> Pair | Rejection:
    image, mask = row.get("image", ""), row.get("mask", "")
    if not image or not mask:
        lacks = "image" if not image else f"mask ('{NONE}' says that there is no polyp)"
        return Rejection(printable(image or f"line {number}"), f"line {number} names no {lacks}")
    own = [image] if mask.lower() == NONE else [image, mask]
    for name in own:
        file = look_at(tree, name)
        files.append(file)
        if file.fault:
            return Rejection(printable(name), file.fault)
    id = row.get("id") or os.path.splitext(os.path.normpath(image).lstrip("/"))[0]
    if fault := unfit_id(id):
        return Rejection(printable(image), fault)
    hospital, written = row.get("hospital", ""), row.get(label, "")
    group = spelling(written)
    patient = f"{hospital} {label} {written}" if label == "patient" and group not in ("", *_NOBODY) else ""
    if group and label in _WITHIN_A_HOSPITAL:
        group = f"{spelling(hospital)} {label} {group}"
    return Pair(id, image, own[1] if len(own) > 1 else "", hospital, (group,) if group else (), patient)
