"""The config names the source; the phantom is drawn once, a folder ingested once."""

import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import fedpolyp.data
from fedpolyp.config import DataConfig
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError

Drawn = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.intp]]
CONFIG = DataConfig(source="phantom", image_size=32, phantom_images=20, phantom_looks=3)


class FakePhantom(ModuleType):
    """Draws flat frames, each with a lesion of a quarter, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__("fedpolyp.data.phantom")
        self.VERSION = 1
        self.calls: list[tuple[int, int, int, int]] = []

    def draw(self, count: int, size: int, looks: int, seed: int) -> Drawn:
        self.calls.append((count, size, looks, seed))
        images = np.full((count, size, size, 3), 51, np.uint8)
        masks = np.zeros((count, size, size), np.uint8)
        masks[:, : size // 2, : size // 2] = 1
        return images, masks, np.arange(count) % looks


@pytest.fixture
def phantom(monkeypatch: pytest.MonkeyPatch) -> FakePhantom:
    fake = FakePhantom()
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(fedpolyp.data, "phantom", fake, raising=False)
    return fake


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    return tmp_path / "stores"


def test_phantom_frames_have_their_ids_looks_and_groups_of_their_own(phantom: FakePhantom, stores: Path) -> None:
    store = open_source(CONFIG, seed=4)
    assert phantom.calls == [(20, 32, 3, 4)]
    assert store.path.parent == stores
    assert store.path.name.startswith("phantom-32px-")
    assert [record.id for record in store.records] == [f"phantom-{index:05d}" for index in range(20)]
    assert [record.look for record in store.records] == [index % 3 for index in range(20)]
    assert [record.group for record in store.records] == list(range(20))
    record = store.records[7]
    assert (record.source, record.height, record.width) == ("phantom", 32, 32)
    assert (record.lesion_fraction, record.tone) == (0.25, (0.2, 0.2, 0.2))
    assert store.report.used == 20
    assert store.report.rejected == ()


def test_the_phantom_is_drawn_once(phantom: FakePhantom) -> None:
    first, second = open_source(CONFIG, seed=0), open_source(CONFIG, seed=0)
    assert len(phantom.calls) == 1
    assert first.path == second.path
    assert first.records == second.records


def test_whatever_decides_the_frames_makes_another_store(phantom: FakePhantom) -> None:
    paths = [open_source(CONFIG, seed=0).path, open_source(CONFIG, seed=1).path]
    for change in ({"phantom_images": 21}, {"phantom_looks": 2}, {"image_size": 48}):
        paths.append(open_source(CONFIG.model_copy(update=change), seed=0).path)
    phantom.VERSION = 2
    paths.append(open_source(CONFIG, seed=0).path)
    assert len(set(paths)) == 6


def test_a_folder_is_ingested_at_the_size_of_the_config_whatever_the_seed(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "clinic" / part).mkdir(parents=True)
        pixels = np.full((40, 40), 200, np.uint8)
        if part == "masks":
            pixels[9:] = 0
        cv2.imwrite(str(tmp_path / "clinic" / part / "a.png"), pixels)
    config = DataConfig(source=str(tmp_path / "clinic"), image_size=48)
    store = open_source(config, seed=0)
    assert store.images.shape == (1, 48, 48, 3)
    assert store.records[0].source == "clinic"
    assert open_source(config, seed=1).path == store.path


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no .*nowhere"):
        open_source(DataConfig(source=str(tmp_path / "nowhere")), seed=0)
