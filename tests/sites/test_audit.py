"""The audit log grows at its end, and shows what was done to it elsewhere."""

import json
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
    before, write = log.read_bytes(), audit.os.write
    monkeypatch.setattr(audit.os, "write", lambda handle, line: write(handle, line[:10]))
    with pytest.raises(OSError, match="No space left"):
        audit.append(log, "asked", {})
    assert log.read_bytes() == before
