"""No image of an unseen source, and no near-duplicate of one, is assigned to anybody."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fedpolyp.data.partition.assign import partition_images, partition_notes
from fedpolyp.data.store import ImageRecord
from fedpolyp.errors import UsageError
from tests.image_tables import all_sets, make_config, make_records


def records(sources: Sequence[str]) -> list[ImageRecord]:
    """Records in groups of two; the source of each is drawn from `sources` in turn."""
    return [
        replace(record, source=sources[number % len(sources)])
        for number, record in enumerate(make_records([2] * 60, seed=1))
    ]


def test_unseen_images_are_apart_and_near_duplicates_of_them_are_in_no_set() -> None:
    first: dict[int, str] = {}
    for record in (given := records(["home"])):
        first.setdefault(record.group, record.id)
    away = {id for group, id in first.items() if group < 30}  # each has a near-duplicate at home
    given = [replace(record, source="elsewhere") if record.id in away else record for record in given]
    config = make_config(hospitals__count=3, data__unseen="elsewhere")
    partition = partition_images(given, config)
    assert partition.unseen == {"elsewhere": tuple(sorted(r.id for r in given if r.source == "elsewhere"))}
    groups = {record.id: record.group for record in given}
    apart = {groups[id] for id in partition.unseen["elsewhere"]}
    assigned = [id for ids in all_sets(partition).values() for id in ids]
    assert assigned and not apart & {groups[id] for id in assigned}
    assert len(assigned) == 60  # of 120: 30 are unseen, 30 like them
    assert partition_notes(given, config, partition) == [
        "unseen by all hospitals: 30 images of elsewhere",
        "30 images are near-duplicates of unseen ones, and left out",
    ]


def test_a_source_of_several_hospitals_is_meant_with_all_of_them() -> None:
    given = [replace(record, source=["home", "far-C1", "far-C2"][record.group % 3]) for record in records(["home"])]
    partition = partition_images(given, make_config(hospitals__count=3, data__unseen="far"))
    assert list(partition.unseen) == ["far-C1", "far-C2"]
    assert list(partition_images(given, make_config(hospitals__count=3, data__unseen="far-C2")).unseen) == ["far-C2"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("fare", r"^data\.unseen: there is no source 'fare'; there are 'far', 'home'$"),
        ("home, far", r"^data\.unseen names every source: none is left for hospitals$"),
    ],
)
def test_a_name_that_is_no_source_and_all_of_them_are_refused(names: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        partition_images(records(["home", "far"]), make_config(hospitals__count=3, data__unseen=names))


def test_without_unseen_sources_the_partition_is_what_it_was() -> None:
    given = records(["home", "far"])
    assert partition_images(given, make_config(hospitals__count=3)).unseen == {}
