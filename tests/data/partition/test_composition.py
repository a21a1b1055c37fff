"""What is reported about a partition is what its hospitals have."""

import numpy as np
import pytest

from fedpolyp.data.camera import Camera
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.composition import compose
from fedpolyp.data.partition.partition import HospitalImages, Partition
from tests.image_tables import make_config, make_records, make_store, record

AREAS = [0.1, 0.1, 0.2, 0.3, 0.0, 0.5, 0.5, 0.6, 0.1]
RECORDS = [record(i, 3 if i == 2 else i, area) for i, area in enumerate(AREAS)]
STORE = make_store(RECORDS)
IDS = [r.id for r in RECORDS]
A, B = HospitalImages(tuple(IDS[:3]), (IDS[3],), (IDS[4],)), HospitalImages((IDS[5],), (IDS[6],), (IDS[7],))
HELD = (IDS[8],)


def test_counts_shares_quartiles_and_duplicates_are_those_of_all_three_sets() -> None:
    a, b = compose(Partition(HELD, {"a": A, "b": B}), STORE).hospitals
    assert (a.name, a.images, a.share, a.polyp_free, a.duplicates) == ("a", 5, 0.625, 1, 2)
    assert a.lesions == pytest.approx((0.1, 0.15, 0.225))
    assert (b.images, b.polyp_free, b.duplicates, b.note) == (3, 0, 0, "")
    assert b.tone == pytest.approx((0.6, 0.4, 0.3))


def test_distances_are_how_far_the_mass_of_a_hospital_must_be_moved_to_be_the_pools() -> None:
    found = compose(Partition(HELD, {"a": A, "b": B}), STORE)
    # In one dimension, the area between the two distribution functions.
    grid = np.linspace(0, 1, 100_001)
    pool = np.array(AREAS[:8])
    for holding, own in zip(found.hospitals, (pool[:5], pool[5:]), strict=True):
        apart = [np.searchsorted(np.sort(of), grid, side="right") / len(of) for of in (own, pool)]
        assert holding.lesion_distance == pytest.approx(np.abs(apart[0] - apart[1]).mean(), abs=1e-4)
        assert holding.tone_distance == 0
    assert found.lesion_distance == pytest.approx(np.mean([one.lesion_distance for one in found.hospitals]))
    assert found.heldout.images == 1 and found.heldout.lesion_distance > 0


def test_a_camera_counts_in_its_hospitals_tone_and_is_noted() -> None:
    dark = Camera(gamma=4.0)
    a, b = compose(
        Partition(HELD, {"a": A, "b": HospitalImages(B.train, B.val, B.test, dark)}, heldout_camera=dark), STORE
    ).hospitals
    assert b.note == "gamma 4.00" and max(b.tone) < 0.35 and b.tone_distance > a.tone_distance > 0


def test_without_any_lesion_there_are_no_quartiles() -> None:
    records = [record(i, i, 0.0) for i in range(4)]
    found = compose(
        Partition((records[3].id,), {"a": HospitalImages(tuple(r.id for r in records[:3]), (), ())}),
        make_store(records),
    )
    assert found.hospitals[0].lesions is None and found.hospitals[0].polyp_free == 3


def test_iid_is_about_as_far_from_the_pool_as_chance_and_a_sorted_partition_far_more() -> None:
    records = make_records([1] * 200)
    store = make_store(records)
    found = {
        scheme: compose(partition_images(records, make_config(hospitals__scheme=scheme, hospitals__skew=1.0)), store)
        for scheme in ("iid", "lesion-size")
    }
    assert found["iid"].lesion_distance < 2 * found["iid"].lesion_distance_by_chance
    assert found["lesion-size"].lesion_distance > 4 * found["lesion-size"].lesion_distance_by_chance
