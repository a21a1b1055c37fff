"""Pruning removes stores that nobody uses, and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.data.pruning import prune, stores_in, total
from fedpolyp.data.store import ImageRecord, IngestReport, Store, write_store
from fedpolyp.errors import FedpolypError

DAY = 86_400.0


def make(folder: Path, name: str, days: float = 0.0) -> Path:
    images, masks = np.zeros((1, 32, 32, 3), np.uint8), np.ones((1, 32, 32), np.uint8)
    record = ImageRecord("a", "somewhere", -1, 90, 120, 1.0, (0.5, 0.25, 0.125), 0, "ab" * 32)
    path = write_store(folder / name, images, masks, [record], IngestReport(1)).path
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_what_was_not_used_for_so_long_goes_and_the_rest_stays(tmp_path: Path) -> None:
    old, young = make(tmp_path, "old", 40), make(tmp_path, "young", 20)
    assert [found.path for found in stores_in(tmp_path)] == [old, young]
    removed, left = prune(tmp_path, 30 * DAY)
    assert ([found.path for found in removed], [found.path for found in left]) == ([old], [young])
    assert sorted(tmp_path.iterdir()) == [young]
    assert total(left) == sum(file.stat().st_size for file in young.iterdir()) > 4 * 32 * 32


def test_to_open_a_store_is_to_use_it(tmp_path: Path) -> None:
    path = make(tmp_path, "s", 40)
    Store.open(path)
    assert prune(tmp_path, 30 * DAY)[0] == []


def test_what_is_open_is_never_removed_however_old(tmp_path: Path) -> None:
    path = make(tmp_path, "s")
    store = Store.open(path)
    os.utime(path, (0, 0))
    assert prune(tmp_path, 0)[0] == []
    assert [found.open for found in stores_in(tmp_path)] == [True]
    assert Store.open(path).records == store.records
    del store
    assert [found.open for found in stores_in(tmp_path)] == [False]
    assert [found.path for found in prune(tmp_path, 0)[0]] == [path]
    with pytest.raises(FedpolypError, match="not a complete store"):
        Store.open(path)


def test_what_another_process_has_open_is_never_removed(tmp_path: Path) -> None:
    path = make(tmp_path, "s")
    program = (
        "import sys; from pathlib import Path; from fedpolyp.data.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        assert prune(tmp_path, 0)[0] == []
        other.communicate()
    assert len(prune(tmp_path, 0)[0]) == 1


def test_only_folders_that_are_stores_are_removed(tmp_path: Path) -> None:
    outside = make(tmp_path / "elsewhere", "s")
    stores = tmp_path / "stores"
    real = make(stores, "real")
    more, less, linked = make(stores, "more"), make(stores, "less"), make(stores, "linked")
    (more / "notes.txt").write_text("mine")
    (less / "masks.npy").unlink()
    (linked / "masks.npy").unlink()
    (linked / "masks.npy").symlink_to(outside / "masks.npy")
    (stores / "link").symlink_to(outside)
    (stores / "folder").mkdir()
    (stores / "file").touch()
    before = {path for path in tmp_path.rglob("*") if real not in (path, path.parent)}
    assert [found.path for found in prune(stores, 0)[0]] == [real]
    assert set(tmp_path.rglob("*")) == before


def test_where_there_are_no_stores_nothing_is_pruned(tmp_path: Path) -> None:
    assert prune(tmp_path / "nowhere", 0) == ([], [])
