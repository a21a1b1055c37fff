"""The held-out set that lists name."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.held_out import _listed, list_notes
from fedpolyp.errors import UsageError
from tests.image_tables import all_sets, images_at, make_config, make_records, record


def write_lists(folder: Path, train: Iterable[str], val: Iterable[str]) -> str:
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    (folder / "val.txt").write_text("\n".join(val))
    return str(folder)


def test_lists_decide_what_is_held_out_and_what_is_assigned(tmp_path: Path) -> None:
    records = [record(i, i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    lists = write_lists(tmp_path, [*ids[:12], "lost"], [*ids[12:16], "also lost"])
    partition = partition_images(records, make_config(data__lists=lists, hospitals__count=2))
    assert list(partition.heldout) == ids[12:16]
    assert sorted(i for images in partition.hospitals.values() for i in images_at(images)) == ids[:12]


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    records = [record(i, i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    (tmp_path / "train.txt").write_text("\n".join(ids[:12]), encoding="utf-8-sig")
    (tmp_path / "val.txt").write_text("\r\n".join(ids[12:]), encoding="utf-8-sig")
    config = make_config(data__lists=str(tmp_path), hospitals__count=2)
    assert list(partition_images(records, config).heldout) == ids[12:]
    assert list_notes(records, config) == []


def test_what_lists_name_in_vain_twice_or_not_at_all_is_said(tmp_path: Path) -> None:
    records = [record(i, 99 if i in (3, 13) else i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    lost = [f"lost{i}" for i in range(7)]
    config = make_config(data__lists=write_lists(tmp_path, [*ids[:12], *lost, ids[12]], [*ids[12:16], "gone"]))
    assert list_notes(records, config) == [
        f"1 of 5 ids in {tmp_path / 'val.txt'} belong to no usable image: 'gone'",
        f"7 of 20 ids in {tmp_path / 'train.txt'} belong to no usable image: "
        "'lost0', 'lost1', 'lost2', 'lost3', 'lost4', …",
        f"1 images are in both lists, and held out: '{ids[12]}'",
        f"1 images of train.txt are near-duplicates of val.txt's, and left out: '{ids[3]}'",
        f"4 images are in neither list, and left out: {', '.join(map(repr, ids[16:]))}",
    ]
    assert list_notes(records, make_config()) == []


def test_a_listed_training_image_with_a_near_duplicate_in_val_is_nowhere(tmp_path: Path) -> None:
    records = [record(i, 99 if i in (3, 13) else i, 0.1) for i in range(16)]
    ids = [r.id for r in records]
    lists = write_lists(tmp_path, ids[:12], ids[12:])
    partition = partition_images(records, make_config(data__lists=lists, hospitals__count=2))
    everywhere = [i for images in all_sets(partition).values() for i in images]
    assert list(partition.heldout) == ids[12:]
    assert sorted(everywhere) == [i for i in ids if i != ids[3]]


def test_lists_that_are_missing_or_name_no_image_are_usage_errors(tmp_path: Path) -> None:
    records = make_records([1] * 20)
    with pytest.raises(UsageError, match=r"cannot read .*val\.txt"):
        partition_images(records, make_config(data__lists=str(tmp_path)))
    lists = write_lists(tmp_path, [r.id for r in records], ["image0001.jpg"])
    with pytest.raises(UsageError, match=r"none of the 1 ids in .*val\.txt is among the 20 images"):
        partition_images(records, make_config(data__lists=lists))


def test_lists_that_cannot_be_read_are_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one in each line: No such file or directory$"):
        _listed(tmp_path / "val.txt")
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="one in each line: it is not text in UTF-8$"):
        _listed(tmp_path / "val.txt")
