"""An archive given as a source is unpacked once, read as a folder, and goes when it is pruned."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from fedpolyp.data import pruning
from fedpolyp.data.ingest import ingest
from fedpolyp.data.sources import archive, list_source
from fedpolyp.errors import UsageError
from tests.picture_folders import write_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, stem in enumerate(("a", "b")):
        write_pair(tmp_path / "Kvasir-SEG", stem, seed=seed)
    return tmp_path / "Kvasir-SEG"


def packed(folder: Path, suffix: str) -> Path:
    path = folder.parent / f"Kvasir.SEG{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as to:
            for file in sorted(folder.rglob("*.png")):
                to.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz") as to_tar:
            to_tar.add(folder, folder.name)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".TGZ"])
def test_an_archive_gives_the_images_of_its_folder_and_is_unpacked_once(
    folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stores = packed(folder, suffix), tmp_path / "stores"
    store = ingest(path, 32, stores)
    plain = ingest(folder, 32, stores)
    assert [record.id for record in store.records] == ["a", "b"]
    assert [record.sha256 for record in store.records] == [record.sha256 for record in plain.records]
    assert store.records[0].source == "Kvasir.SEG"
    monkeypatch.setattr(archive, "unpack", None)
    assert ingest(path, 32, stores).path == store.path
    assert ingest(path, 48, stores).path != store.path


def test_unpacked_again_it_is_the_same_store_and_changed_another(folder: Path, tmp_path: Path) -> None:
    path, stores = packed(folder, ".zip"), tmp_path / "stores"
    first = ingest(path, 32, stores).path
    assert [one.path.name[:9] for one in pruning.prune(stores, 0)[0]] == ["Kvasir.SE", "unpacked-"]
    assert ingest(path, 32, stores).path == first
    os.utime(path, ns=(1, 1))
    assert ingest(path, 32, stores).path != first


def test_an_unpacked_archive_is_listed_with_its_size_and_stays_as_long_as_it_is_in_use(
    folder: Path, tmp_path: Path
) -> None:
    path, stores = packed(folder, ".zip"), tmp_path / "stores"
    listed = list_source(path, stores=stores)
    (found,) = pruning.stores_in(stores)
    assert found.open and found.size == sum(file.stat().st_size for file in folder.rglob("*.png"))
    assert pruning.prune(stores, 0)[0] == []
    assert (listed.root / "Kvasir-SEG" / "images" / "a.png").exists()
    del listed
    assert len(pruning.prune(stores, 0)[0]) == 1
    assert list(stores.iterdir()) == []


def test_an_archive_that_leads_out_of_its_folder_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as to:
        to.writestr("images/a.png", b"")
        to.writestr("../outside.png", b"")
    with pytest.raises(UsageError, match="leads out of the folder"):
        ingest(tmp_path / "bad.zip", 32, tmp_path / "stores")
    assert not (tmp_path / "outside.png").exists() and list((tmp_path / "stores").iterdir()) == []


def test_an_archive_of_no_known_layout_is_told_and_is_not_held(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as to:
        to.writestr("readme.txt", b"")
    with pytest.raises(UsageError, match="found readme.txt"):
        ingest(tmp_path / "other.zip", 32, tmp_path / "stores")
    assert len(pruning.prune(tmp_path / "stores", 0)[0]) == 1
