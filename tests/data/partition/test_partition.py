"""The saved partition: written whole or not at all, and checked when it is read."""

from pathlib import Path

import pytest

from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import FedpolypError
from tests.image_tables import make_config, make_records


def test_a_saved_partition_is_read_back_equal_and_leaves_no_other_file(tmp_path: Path) -> None:
    partition = partition_images(make_records([1] * 40), make_config())
    for _ in range(2):
        partition.save(tmp_path / "partition.json")
    assert Partition.load(tmp_path / "partition.json") == partition
    assert [path.name for path in tmp_path.iterdir()] == ["partition.json"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "partition.json"
    partition = Partition(("a",), {})
    partition.save(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Partition(("b",), {}).save(path)
    assert Partition.load(path) == partition


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"heldout": ["a"',
        "[]",
        '{"heldout": ["a"]}',
        '{"heldout": [1], "hospitals": {}}',
        '{"heldout": [], "hospitals": {"h": {"train": ["a"], "val": []}}}',
        '{"heldout": ["a"], "hospitals": {"h": {"train": ["a"], "val": [], "test": []}}}',
        '{"heldout": ["../a"], "hospitals": {}}',
        '{"heldout": ["a\\u001b[2J"], "hospitals": {}}',
        '{"heldout": [], "hospitals": {"../h": {"train": [], "val": [], "test": []}}}',
        '{"heldout": [], "hospitals": {"<script>": {"train": [], "val": [], "test": []}}}',
        '{"heldout": [' * 50_000,
        '{"heldout": [' + "9" * 5000 + "]}",
    ],
)
def test_a_damaged_partition_is_a_fedpolyp_error_naming_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "partition.json"
    path.write_text(text)
    with pytest.raises(FedpolypError, match=r"partition\.json is not a partition"):
        Partition.load(path)


def test_a_missing_partition_is_a_fedpolyp_error_and_an_undecodable_one_too(tmp_path: Path) -> None:
    path = tmp_path / "partition.json"
    with pytest.raises(FedpolypError, match="cannot read"):
        Partition.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FedpolypError, match="is not a partition"):
        Partition.load(path)
