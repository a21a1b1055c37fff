"""A store is complete or not there, and gives back what was put in."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.data import store as store_module
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
from fedpolyp.errors import FedpolypError, UsageError

REPORT = IngestReport(3, (Rejection("images/x.gif", "not one of .png"),))


def record(id_: str) -> ImageRecord:
    return ImageRecord(id_, "somewhere", -1, 90, 120, 0.25, (0.5, 0.25, 0.125), 0, "ab" * 32)


def write(path: Path, fill: int = 7) -> Store:
    images = np.full((3, 32, 32, 3), fill, np.uint8)
    masks = np.zeros((3, 32, 32), np.uint8)
    masks[:, :16, :16] = 1
    return write_store(path, images, masks, [record(id_) for id_ in ("b", "a", "ü")], REPORT)


def test_what_is_opened_is_what_was_written(tmp_path: Path) -> None:
    written = write(tmp_path / "stores" / "s")
    opened = Store.open(tmp_path / "stores" / "s")
    assert opened.records == written.records == (record("b"), record("a"), record("ü"))
    assert opened.report == REPORT
    assert opened.images.shape == (3, 32, 32, 3)
    assert (opened.images == 7).all()
    assert opened.masks.sum() == 3 * 16 * 16


def test_arrays_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    store = write(tmp_path / "s")
    for array in (store.images, store.masks):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_positions_follow_the_order_of_the_ids(tmp_path: Path) -> None:
    store = write(tmp_path / "s")
    assert store.positions(["ü", "b", "ü"]).tolist() == [2, 0, 2]
    assert store.positions([]).dtype == np.intp


def test_a_missing_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedpolypError, match="no image 'nobody'"):
        write(tmp_path / "s").positions(["a", "nobody"])


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "table.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half"])
def test_an_incomplete_store_is_never_opened(tmp_path: Path, name: str, damage: str) -> None:
    file = write(tmp_path / "s").path / name
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(tmp_path / "s")


def test_a_store_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(tmp_path / "nothing")


def test_arrays_that_do_not_fit_the_records_leave_no_store(tmp_path: Path) -> None:
    images, masks = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32), np.uint8)
    with pytest.raises(FedpolypError, match="3 records"):
        write_store(tmp_path / "s", images, masks, [record(id_) for id_ in "abc"], REPORT)
    assert list(tmp_path.iterdir()) == []


def test_the_first_writer_wins_and_the_second_gets_its_store(tmp_path: Path) -> None:
    write(tmp_path / "s", fill=1)
    assert (write(tmp_path / "s", fill=2).images == 1).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FedpolypError, match="No space left"):
        write(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


# The moments at which a write can die: at each of its fsyncs (images, masks, table, draft folder | stores folder).
@pytest.mark.parametrize(("moment", "complete"), [(1, False), (2, False), (3, False), (4, False), (5, True)])
def test_a_writer_killed_at_any_moment_leaves_no_half_store(tmp_path: Path, moment: int, complete: bool) -> None:
    code = f"""
import os, runpy, signal, sys
from pathlib import Path
left = [{moment}]
def fsync(descriptor):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
runpy.run_path({__file__!r})["write"](Path(sys.argv[1]), fill=1)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "s").exists() == complete
    assert (write(tmp_path / "s", fill=2).images == (1 if complete else 2)).all()


def test_drafts_of_dead_writers_go_after_a_day_and_nothing_else_does(tmp_path: Path) -> None:
    old, young, foreign = tmp_path / ".draft-s-old", tmp_path / ".draft-s-young", tmp_path / "notes"
    for folder in (old, young, foreign):
        folder.mkdir()
        (folder / "images.npy").write_bytes(b"half")
    two_days_ago = time.time() - 2 * store_module.DRAFT_LIFE
    for folder in (old, foreign):
        os.utime(folder, (two_days_ago, two_days_ago))
    write(tmp_path / "s")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".draft-s-young", "notes", "s"]


def test_stores_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", "/somewhere/stores")
    assert stores_folder() == Path("/somewhere/stores")
    monkeypatch.delenv("FEDPOLYP_STORES")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert stores_folder() == Path.home() / ".cache" / "fedpolyp" / "stores"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert stores_folder() == Path("/elsewhere/fedpolyp/stores")


@pytest.mark.parametrize("chosen", ["~nobody-of-this-name", "~nobody-of-this-name/stores", ""])
def test_stores_in_the_home_of_nobody_are_refused_with_what_to_set(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", chosen)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no HOME and no such user
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UsageError, match="no home folder is known for the stores .* set FEDPOLYP_STORES"):
        stores_folder()


def test_store_names_are_readable_and_follow_the_key(tmp_path: Path) -> None:
    path = store_path(tmp_path, "My images/é!", 128, [1, "a"])
    assert path.parent == tmp_path
    assert path.name.startswith("My-images-128px-")
    assert len(path.name.removeprefix("My-images-128px-")) == 12
    assert store_path(tmp_path, "My images/é!", 128, [1, "b"]) != path
    assert store_path(tmp_path, "", 128, []).name.startswith("images-128px-")
    assert len(store_path(tmp_path, "x" * 255, 128, []).name) < 80


def test_tone_is_red_green_blue_between_0_and_1() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0], image[:2, :, 1] = 255, 255
    assert colour_tone(image) == (1.0, 0.5, 0.0)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record("a").id = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    "table",
    [
        "[]",
        "[" * 50_000,
        '{"records": 1, "rejected": []}',
        '{"records": [{"id": "../a"}], "rejected": []}',
        '{"records": [], "rejected": [' + "9" * 5000 + "]}",
    ],
)
def test_a_table_that_somebody_else_wrote_is_refused_by_name(tmp_path: Path, table: str) -> None:
    path = write(tmp_path / "s").path
    (path / "table.json").write_text(table)
    with pytest.raises(FedpolypError, match=f"^{path} is not a complete store"):
        Store.open(path)


@pytest.mark.parametrize("id_", ["../a", "a\x1b[2J", "b"])
def test_no_record_has_an_id_that_none_can_have_or_that_another_has(tmp_path: Path, id_: str) -> None:
    path = write(tmp_path / "s").path
    table = json.loads((path / "table.json").read_text())
    table["records"][1]["id"] = id_
    (path / "table.json").write_text(json.dumps(table))
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(path)


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x01\x00v\x00{'descr': ',', 'fortran_order': False, 'shape': (3,)}\n", b"cos\n"]
)
def test_an_array_that_somebody_else_wrote_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "s").path
    (path / "masks.npy").write_bytes(content)
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(path)


def test_a_pipe_in_a_stores_place_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "s").path
    (path / "masks.npy").unlink()
    os.mkfifo(path / "masks.npy")
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(path)


@pytest.mark.parametrize("chosen", ["~", "~/stores", ""])
def test_stores_in_a_home_that_does_not_exist_are_refused(
    chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", chosen)
    monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UsageError, match="nonexistent for the stores does not exist; set FEDPOLYP_STORES"):
        stores_folder()
    assert not (tmp_path / "nonexistent").exists()
