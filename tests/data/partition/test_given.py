"""A run on a partition that was saved before: the same partition, or one sentence why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.config import Config, fingerprint, to_toml
from fedpolyp.config.unused import unused
from fedpolyp.data.digest import files_of
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.given import imported_partition_notes, noted_partition
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import UsageError
from tests.image_tables import make_config, make_records, with_hospitals

RECORDS = make_records([1] * 60)
Saved = tuple[Path, Config]
PARTITION = partition_images(RECORDS, make_config(hospitals__count=3, hospitals__scheme="acquisition"))


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """The partition, and a config that begins with it."""
    PARTITION.save(tmp_path / "partition.json")
    return tmp_path / "partition.json", make_config(hospitals__partition=str(tmp_path / "partition.json"))


def test_the_saved_partition_is_used_whatever_the_scheme_and_the_seed_say(saved: Saved) -> None:
    for config in (saved[1], with_hospitals(saved[1], scheme="lesion-size"), saved[1].model_copy(update={"seed": 9})):
        assert partition_images(RECORDS, config) == PARTITION


def test_the_config_notes_its_hash_and_how_many_hospitals_there_are(saved: Saved) -> None:
    config = noted_partition(saved[1])
    assert config.hospitals.count == 3 and len(config.hospitals.partition_sha256 or "") == 64
    assert noted_partition(config) == config
    assert noted_partition(make_config()) == make_config()
    replace(PARTITION, heldout=PARTITION.heldout[1:]).save(saved[0])
    for on in (noted_partition, lambda config: partition_images(RECORDS, config)):
        with pytest.raises(UsageError, match="is not the one expected: SHA-256 .*, expected "):
            on(config)


def test_a_runs_bits_are_known_by_the_hash_and_not_by_where_the_file_lies(saved: Saved, tmp_path: Path) -> None:
    config, path = noted_partition(saved[1]), tmp_path / "config.toml"

    def known(config: Config) -> str:
        path.write_text(to_toml(config))
        return fingerprint(path)

    assert known(config) == known(with_hospitals(config, partition="/elsewhere"))
    assert known(config) != known(with_hospitals(config, partition_sha256="0" * 64))


def test_a_partition_of_other_images_is_refused(saved: Saved) -> None:
    with pytest.raises(UsageError, match=r"does not fit these 58 images: 2 of the 60 .*: 'image0007', 'image0011'"):
        partition_images([r for r in RECORDS if r.id not in ("image0007", "image0011")], saved[1])


def test_other_images_of_the_same_ids_are_said() -> None:
    known = replace(PARTITION, files=files_of(RECORDS, PARTITION))
    assert imported_partition_notes(RECORDS, known) == []
    others = [replace(record, sha256="1" * 64) for record in RECORDS]
    assert imported_partition_notes(others, known) == [
        "the partition was made of other images than these, though they have the same ids: other files, or drawn "
        "with another seed or at another size"
    ]


def test_sources_that_it_leaves_unseen_stay_so_and_others_are_not_made_so(saved: Saved) -> None:
    config = saved[1].model_copy(update={"data": saved[1].data.model_copy(update={"unseen": "elsewhere"})})
    with pytest.raises(UsageError, match="leaves no source unseen, and data.unseen is 'elsewhere'"):
        partition_images(RECORDS, config)
    apart = replace(PARTITION, heldout=PARTITION.heldout[2:], unseen={"elsewhere": PARTITION.heldout[:2]})
    apart.save(saved[0])
    assert partition_images(RECORDS, saved[1]) == partition_images(RECORDS, config) == apart
    assert imported_partition_notes(RECORDS, apart) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda p: replace(p, heldout=()), "has 3 hospitals and 0 held-out images"),
        (lambda p: replace(p, hospitals={}), "has 0 hospitals"),
        (lambda p: without(p, "train"), "gives 'hospital-1' no image of the set train"),
        (lambda p: without(p, "val"), "gives 'hospital-1' no image of the set val"),
        (lambda p: replace(p, hospitals={"pooled": p.hospitals["hospital-1"]}), "a hospital cannot be called 'pooled'"),
    ],
)
def test_a_partition_that_no_run_could_use_is_refused(
    saved: Saved, changed: Callable[[Partition], Partition], said: str
) -> None:
    changed(PARTITION).save(saved[0])
    with pytest.raises(UsageError, match=said):
        partition_images(RECORDS, saved[1])


def without(partition: Partition, kind: str) -> Partition:
    nothing: dict[str, Any] = {kind: ()}
    first = replace(partition.hospitals["hospital-1"], **nothing)
    return replace(partition, hospitals={**partition.hospitals, "hospital-1": first})


def test_a_file_that_is_none_is_refused_by_name(saved: Saved) -> None:
    saved[0].write_text("{}")
    with pytest.raises(UsageError, match=r"hospitals.partition: .*partition.json is not a partition"):
        noted_partition(saved[1])
    saved[0].unlink()
    with pytest.raises(UsageError, match="cannot read the partition"):
        noted_partition(saved[1])


def test_images_left_out_and_settings_without_effect_are_said(saved: Saved) -> None:
    fewer = Partition(PARTITION.heldout[1:], PARTITION.hospitals)
    assert imported_partition_notes(RECORDS, fewer) == [
        f"1 images are in no set, and left out: '{PARTITION.heldout[0]}'"
    ]
    assert imported_partition_notes(RECORDS, PARTITION) == []
    config = with_hospitals(saved[1], scheme="lesion-size", skew=1.0)
    assert "options without effect: --scheme, --skew (--partition fixes them)" in unused(config, PARTITION)
