"""The audit log grows at its end, and shows what was done to it elsewhere."""

import json
import os
import stat
from pathlib import Path

import pytest

from fedpolyp.errors import FedpolypError
from fedpolyp.sites import audit


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for number in range(4):
        audit.append(tmp_path / "audit.jsonl", "asked", {"round": number})
    return tmp_path / "audit.jsonl"


def faults(log: Path) -> list[tuple[int, str]]:
    return [(entry.number, entry.fault) for entry in audit.read(log) if entry.fault]


def rewrite(log: Path, lines: list[bytes]) -> None:
    log.write_bytes(b"".join(line + b"\n" for line in lines))


def test_an_untouched_log_has_no_fault_and_is_private(log: Path) -> None:
    entries = list(audit.read(log))
    assert [entry.content["round"] for entry in entries] == [0, 1, 2, 3] and not faults(log)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_changed_entry_is_named(log: Path) -> None:
    rewrite(log, [line.replace(b'"round": 2', b'"round": 7') for line in log.read_bytes().splitlines()])
    assert faults(log) == [(3, "changed after it was written")]


def test_an_entry_that_was_changed_along_with_its_hash_betrays_itself_in_the_next(log: Path) -> None:
    lines = log.read_bytes().splitlines()
    changed = json.loads(lines[1]) | {"round": 7}
    changed["hash"] = audit._hash(changed)
    rewrite(log, [lines[0], json.dumps(changed).encode(), *lines[2:]])
    assert [number for number, _ in faults(log)] == [3]


@pytest.mark.parametrize("order", [(0, 2, 3), (1, 2, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3)])
def test_missing_swapped_and_doubled_entries_are_seen(log: Path, order: tuple[int, ...]) -> None:
    lines = log.read_bytes().splitlines()
    rewrite(log, [lines[position] for position in order])
    assert faults(log)


def test_what_is_no_entry_is_named(log: Path) -> None:
    rewrite(log, [*log.read_bytes().splitlines()[:2], b"{}"])
    assert faults(log) == [(3, "not an entry")]


def test_nothing_is_added_after_a_damaged_line(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-5])
    before = log.read_bytes()
    with pytest.raises(FedpolypError, match="is damaged"):
        audit.append(log, "asked", {})
    assert log.read_bytes() == before


def test_an_entry_that_the_disk_refuses_leaves_no_trace(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, write = log.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:10]))
    with pytest.raises(OSError, match="No space left"):
        audit.append(log, "asked", {})
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"7",
        b'"text"',
        b"null",
        b"[" * 100_000,
        b'{"hash": ' * 20_000,
        b'{"hash": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"x" * 200_000,
        b"",
    ],
    ids=["list", "number", "text", "null", "deep", "deep objects", "huge", "no text", "long", "empty"],
)
def test_a_line_of_anything_is_told_and_ends_nothing(log: Path, line: bytes) -> None:
    with log.open("ab") as stream:
        stream.write(line + b"\n")
    assert {(number >= 5, fault) for number, fault in faults(log)} == {(True, "not an entry")}
    with pytest.raises(FedpolypError, match="the last line of the audit log .* is damaged"):
        audit.append(log, "asked", {})


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.jsonl")
    with pytest.raises(FedpolypError, match="cannot read the audit log .*: not a regular file"):
        list(audit.read(tmp_path / "audit.jsonl"))
