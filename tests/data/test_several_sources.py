"""Several sources become one store: ids say which, what is lesion is decided by each, groups reach across."""

from pathlib import Path

import numpy as np
import pytest

from fedpolyp.config import load, read, to_toml
from fedpolyp.config.toml import changed_toml, fingerprint
from fedpolyp.data.ingest import ingest, ingest_all
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from tests.picture_folders import encoded, picture, shape, write_pair


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Two folders: masks of 0 and 255 in one, of 0 and 1 in the other; b/1 shows what a/2 does, a/bad nothing."""
    for number in range(3):
        write_pair(tmp_path / "one", str(number), seed=number)
    write_pair(tmp_path / "one", "bad", b"")
    for number, seed in enumerate((10, 2, 12)):
        write_pair(tmp_path / "two", str(number), encoded(picture(seed)), encoded(shape(seed)))
    return {"b": tmp_path / "two", "a": tmp_path / "one"}


def test_one_store_of_all_with_qualified_ids_and_groups_across(places: dict[str, Path], tmp_path: Path) -> None:
    store = ingest_all(places, 32, tmp_path / "stores")
    assert [(record.id, record.source) for record in store.records] == [
        *((f"a/{number}", "a") for number in range(3)),
        *((f"b/{number}", "b") for number in range(3)),
    ]
    assert [record.group for record in store.records] == [0, 1, 2, 3, 2, 5]
    assert [rejection.file for rejection in store.report.rejected] == ["a/images/bad.png"]
    assert store.report.notes == (
        "b: masks by grey level: background 0, lesion 1",
        "a: masks by grey level: background 0, lesion 255",
    )
    assert Store.open(store.path).positions(["b/2"]).tolist() == [5]


def test_each_source_has_the_bits_that_it_has_alone(places: dict[str, Path], tmp_path: Path) -> None:
    together = ingest_all(places, 32, tmp_path / "stores")
    alone = [ingest(places[name], 32, tmp_path / "stores") for name in ("a", "b")]
    assert np.array_equal(together.images, np.concatenate([one.images for one in alone]))
    assert np.array_equal(together.masks, np.concatenate([one.masks for one in alone]))
    hashes = [record.sha256 for record in together.records]
    assert hashes == [record.sha256 for one in alone for record in one.records]


def test_a_source_that_cannot_be_used_stops_and_is_named(places: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*/gone"):
        ingest_all({**places, "c": tmp_path / "gone"}, 32, tmp_path / "stores")
    write_pair(tmp_path / "three", "x", b"")
    with pytest.raises(UsageError, match=r"no usable pair in .*/three"):
        ingest_all({**places, "c": tmp_path / "three"}, 32, tmp_path / "stores")
    assert not (tmp_path / "stores").exists()


def test_patients_of_two_sources_who_are_called_alike_are_two(places: dict[str, Path], tmp_path: Path) -> None:
    write_pair(places["a"], "1-later", seed=50)
    store = ingest_all(places, 32, tmp_path / "stores", group_by="^[0-9]")
    groups = {record.id: record.group for record in store.records}
    assert groups["a/1"] == groups["a/1-later"] != groups["b/1"] == groups["a/2"]
    patients = {record.id: record.patient for record in store.records}
    assert patients["a/1"] == patients["a/1-later"] and len({patients[id] for id in ("a/1", "a/2", "b/1")}) == 3


def test_group_by_takes_the_first_group_of_the_expression_or_all_it_finds(tmp_path: Path) -> None:
    for seed, stem in enumerate(("p1_a", "p1_b", "p2_a", "x")):
        write_pair(tmp_path / "clinic", stem, seed=seed)

    def groups(expression: str) -> list[int]:
        store = ingest(tmp_path / "clinic", 32, tmp_path / "stores", group_by=expression)
        return [record.group for record in store.records]

    assert groups("^(p[0-9])_") == groups("^p[0-9]") == [0, 0, 2, 3]
    assert groups("_(.)$") == [0, 1, 0, 3]
    with pytest.raises(UsageError, match="group_by 'nobody' finds nothing in the name of any image"):
        groups("nobody")
    noted = ingest(tmp_path / "clinic", 32, tmp_path / "stores", group_by="^(p[0-9])_").report.notes
    assert "group_by finds a match in 3 of 4 names" in noted
    store = ingest(tmp_path / "clinic", 32, tmp_path / "stores", group_by="^(p[0-9])_")
    assert [record.patient for record in store.records] == [0, 0, 2, -1]


def test_a_config_of_several_sources_is_written_read_opened_and_partitioned(
    places: dict[str, Path], tmp_path: Path
) -> None:
    for name, folder in places.items():
        for number in range(3, 12):
            seed = number + (100 if name == "a" else 200)
            write_pair(folder, str(number), encoded(picture(seed)), encoded((255 if name == "a" else 1) * shape(seed)))
    given = {name: str(folder) for name, folder in places.items()}
    config = load(overrides={"data.source": given, "data.image_size": 32, "hospitals.count": 2})
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config, explain=True))
    assert read(file) == config and config.data.called == "b+a"
    store = open_source(config.data, 0)
    partition = partition_images(store.records, config)
    sets = [partition.heldout, *(s for own in partition.hospitals.values() for s in (own.train, own.val, own.test))]
    assert sorted(id for ids in sets for id in ids) == [record.id for record in store.records]
    assert sum({"a/2", "b/1"} <= set(ids) for ids in sets) == 1, "near-duplicates of two sources stay together"


def test_where_several_sources_lie_may_change_without_another_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    config = load(overrides={"data.source": {"a": "/x", "b": "/y"}})
    file.write_text(to_toml(config, explain=True))
    before = fingerprint(file)
    moved = {"a": '/elsewhere "x"', "b": "/y"}
    file.write_text(changed_toml(file.read_text(), {"data.source": moved}))
    assert read(file).data.source == moved and fingerprint(file) == before
    file.write_text(changed_toml(file.read_text(), {"data.source": "/one"}))
    assert read(file).data.source == "/one" and fingerprint(file) == before


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("data.source", {}, "names no source|source"),
        ("data.source", {"a/b": "/x"}, "the name of a source has 1 to 40 letters.*; got 'a/b'"),
        ("data.source", {"a": ""}, "data.source.a must be a path"),
        ("data.group_by", "(", "group_by must be a regular expression; got '\\('"),
    ],
)
def test_sources_and_expressions_that_cannot_be_are_refused(setting: str, value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(overrides={setting: value})
