"""The way of the images into the sets."""

import dataclasses

import pytest

from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import IngestReport, Rejection, Store
from fedpolyp.report.flow import OneSet, flow
from tests.fake_comparison import fake_config

CONFIG = fake_config("fedavg", 0)


@pytest.fixture(scope="module")
def store() -> Store:
    return open_source(CONFIG.data, CONFIG.data_seed)


def test_every_pair_that_was_found_is_in_a_set_or_excluded_for_a_reason(store: Store) -> None:
    out = [Rejection(f"masks/{n}.png", reason) for n, reason in enumerate(["empty", "no image", "empty"])]
    given = dataclasses.replace(store, report=IngestReport(150, tuple(out)))
    partition = partition_images(store.records, CONFIG, store)
    found = flow(partition, given)
    assert (found.found, found.excluded, found.unused) == (153, (("empty", 2), ("no image", 1)), 0)
    assert [one.name for one in found.sets] == ["training", "validation", "test", "held out"]
    assert sum(one.images for one in found.sets) == 150
    held = found.sets[-1]
    rows = store.positions(partition.heldout).tolist()
    areas = [store.records[row].lesion_fraction for row in rows]
    assert held.lesions is not None and min(areas) <= held.lesions[0] <= held.lesions[1] <= held.lesions[2] <= max(
        areas
    )
    assert held.groups == len({store.records[row].group for row in rows}) and held.polyp_free == 0


def test_what_is_in_no_set_is_told_and_so_are_sources_that_took_no_part(store: Store) -> None:
    ids = [record.id for record in store.records]
    own = HospitalImages(tuple(ids[:10]), (), ())
    found = flow(Partition(tuple(ids[10:15]), {"hospital-1": own}, {"far": tuple(ids[15:20])}), store)
    assert found.unused == 130
    assert [(one.name, one.images) for one in found.sets] == [("training", 10), ("held out", 5), ("unseen: far", 5)]


def test_without_the_images_only_the_sets_are_known() -> None:
    found = flow(Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ())}), None)
    assert (found.found, found.excluded, found.unused) == (None, (), None)
    assert found.sets[0] == OneSet("training", 1, None, None, None)
