from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.report import samples
from fedpolyp.report.grid import Tile


@pytest.fixture
def store() -> Store:
    return open_source(load(overrides={"data.image_size": 32, "data.phantom_images": 20}).data, 0)


def drawn(store: Store, count: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    captions: list[list[str]] = []

    def record(path: Path, rows: list[list[Tile]], *args: object, **more: object) -> None:
        captions.extend([tile.caption for tile in row] for row in rows)

    monkeypatch.setattr(samples, "draw_grid", record)
    samples.draw_samples(Path("samples.png"), store, count)
    return captions


def test_samples_go_from_the_smallest_lesion_to_the_largest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = drawn(store, 3, monkeypatch)
    by_size = sorted(store.records, key=lambda record: record.lesion_fraction)
    expected = [f"{record.lesion_fraction:.1%}\n{record.id}" for record in (by_size[0], by_size[10], by_size[-1])]
    assert (row[0], row[-1]) == (expected[0], expected[-1])
    assert row[1].split("\n")[1] in {by_size[9].id, by_size[10].id}


def test_a_small_store_is_shown_whole_and_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [caption.split("\n")[1] for row in drawn(store, 24, monkeypatch) for caption in row]
    assert sorted(shown) == sorted(record.id for record in store.records)


def test_a_png_is_written(store: Store, tmp_path: Path) -> None:
    samples.draw_samples(tmp_path / "samples.png", store)
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
