"""The laws that every partition keeps, whatever the images, groups, seed and settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.config import Config
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.finding import find
from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import ImageRecord
from fedpolyp.errors import UsageError
from tests.image_tables import all_sets, images_at, make_config, make_records, with_hospitals

Problem = tuple[list[ImageRecord], Config]

EQUAL = ("acquisition", "iid", "labels", "lesion-size")  # the schemes that assign equal shares


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Records with groups of 1 to 4, and a config that asks for no more hospitals than they are enough for."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=12, max_size=80))
    config = make_config(
        seed=draw(st.integers(0, 2**31 - 1)),
        data__held_out=draw(st.floats(0.01, 0.3)),
        hospitals__scheme=draw(st.sampled_from(EQUAL)),
        hospitals__skew=draw(st.floats(0, 1)),
        hospitals__val=draw(st.sampled_from([0.0, 0.1, 0.3])),
        hospitals__test=draw(st.sampled_from([0.0, 0.1, 0.3])),
    )
    records = make_records(sizes, draw(st.integers(0, 99)))
    heldout = set(partition_images(records, with_hospitals(config, count=1)).heldout)
    left = len({r.group for r in records if r.id not in heldout})
    return records, with_hospitals(config, count=draw(st.integers(1, left // 3)))


@given(problems())
def test_every_image_is_in_exactly_one_set_and_every_set_is_sorted(problem: Problem) -> None:
    records, config = problem
    sets = all_sets(partition_images(records, config))
    assert sorted(image for ids in sets.values() for image in ids) == [r.id for r in records]
    assert all(list(ids) == sorted(ids) for ids in sets.values())


@given(problems())
def test_no_duplicate_group_is_divided_between_sets_or_hospitals(problem: Problem) -> None:
    records, config = problem
    group = {r.id: r.group for r in records}
    homes = Counter(
        number for ids in all_sets(partition_images(records, config)).values() for number in {group[i] for i in ids}
    )
    assert set(homes.values()) == {1}


@given(problems())
def test_no_set_that_was_asked_for_is_empty_and_no_other_is_filled(problem: Problem) -> None:
    records, config = problem
    partition = partition_images(records, config)
    assert partition.heldout
    assert len(partition.hospitals) == config.hospitals.count
    for images in partition.hospitals.values():
        assert images.train
        assert bool(images.val) == (config.hospitals.val > 0)
        assert bool(images.test) == (config.hospitals.test > 0)


@given(problems(), st.randoms())
def test_the_same_seed_gives_the_same_partition_in_whatever_order_the_images_come(
    problem: Problem, random: Random
) -> None:
    records, config = problem
    assert partition_images(random.sample(records, len(records)), config) == partition_images(records, config)


@given(problems())
def test_scheme_skew_and_hospitals_do_not_change_the_held_out_set(problem: Problem) -> None:
    records, config = problem
    other = with_hospitals(config, count=1, scheme="iid", val=0.2)
    assert partition_images(records, config).heldout == partition_images(records, other).heldout


@given(st.lists(st.integers(1, 4), min_size=3, max_size=60), st.sampled_from(EQUAL), st.data())
def test_hospitals_images_are_within_a_groups_size_of_equal_and_groups_at_least_three(
    sizes: list[int], scheme: str, data: st.DataObject
) -> None:
    groups = Groups.of(make_records(sizes))
    count = data.draw(st.integers(1, len(sizes) // 3))
    hospital = find(scheme)(skew=data.draw(st.floats(0, 1))).assign(groups, count, np.random.default_rng(0))
    assert np.bincount(hospital, minlength=count).min() >= 3
    if sum(sizes) / count >= 4 * max(sizes):  # else three whole groups may be more than an equal share
        images = np.bincount(hospital, weights=groups.size, minlength=count)
        assert np.abs(images - sum(sizes) / count).max() <= max(sizes)


def test_single_images_are_assigned_equally_to_within_one() -> None:
    config = make_config(hospitals__count=7, hospitals__val=0.1, hospitals__test=0.2)
    for scheme in EQUAL:
        partition = partition_images(make_records([1] * 400), with_hospitals(config, scheme=scheme))
        assert len(partition.heldout) == 48
        assert {len(images_at(images)) for images in partition.hospitals.values()} == {50, 51}
        assert {len(images.val) for images in partition.hospitals.values()} == {5}
        assert {len(images.test) for images in partition.hospitals.values()} == {10}


def mean_lesions(records: Sequence[ImageRecord], partition: Partition) -> list[float]:
    lesion = {r.id: r.lesion_fraction for r in records}
    return [float(np.mean([lesion[i] for i in images_at(images)])) for images in partition.hospitals.values()]


@given(st.lists(st.integers(1, 4), min_size=20, max_size=60), st.integers(0, 1000))
def test_lesion_size_with_skew_1_orders_hospitals_by_lesion_size(sizes: list[int], seed: int) -> None:
    records = make_records(sizes)
    config = make_config(seed=seed, hospitals__count=3, hospitals__scheme="lesion-size", hospitals__skew=1.0)
    assert all(
        smaller <= larger for smaller, larger in pairwise(mean_lesions(records, partition_images(records, config)))
    )


def test_lesion_size_grows_more_alike_as_skew_falls_and_is_like_iid_at_0() -> None:
    records = make_records([1] * 1200)
    config = make_config(hospitals__scheme="lesion-size")
    spread = {
        skew: np.ptp(mean_lesions(records, partition_images(records, with_hospitals(config, skew=skew))))
        for skew in (1.0, 0.8, 0.5, 0.0)
    }
    by_chance = np.ptp(mean_lesions(records, partition_images(records, with_hospitals(config, scheme="iid"))))
    assert spread[1.0] > 0.75  # lesion fractions are uniform in (0,1]: five fifths have means 0.1 to 0.9
    assert spread[1.0] > spread[0.8] > spread[0.5] > 0.3
    assert max(spread[0.0], by_chance) < 0.1


def test_seeds_and_schemes_give_different_partitions() -> None:
    records = make_records([1] * 60)
    partitions = [
        partition_images(records, make_config(seed=seed, hospitals__scheme=scheme))
        for seed in (0, 1)
        for scheme in EQUAL
    ]
    assert len({str(partition.hospitals) for partition in partitions}) == 8
    assert len({partition.heldout for partition in partitions}) == 2


def test_hospital_names_sort_by_number() -> None:
    names = list(partition_images(make_records([1] * 60), make_config(hospitals__count=12)).hospitals)
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("hospital-01", "hospital-12")


def test_too_many_hospitals_are_refused_with_what_there_is_and_the_most_that_works() -> None:
    records = make_records([2] * 2 + [1] * 18)
    with pytest.raises(UsageError, match=r"count is 7, .* 19 images in 18 groups .* at most 6,"):
        partition_images(records, make_config(hospitals__count=7))
    assert len(partition_images(records, make_config(hospitals__count=6)).hospitals) == 6


@pytest.mark.parametrize("sizes", [[], [1], [5], [1, 1, 1]])
def test_hardly_any_images_are_a_usage_error_and_not_a_crash(sizes: list[int]) -> None:
    with pytest.raises(UsageError, match="at most 0"):
        partition_images(make_records(sizes), make_config(hospitals__count=1))


def test_a_held_out_set_without_a_polyp_is_refused() -> None:
    records = [replace(record, lesion_fraction=0.0) for record in make_records([1] * 40)]
    with pytest.raises(
        UsageError, match="^none of the 5 held-out images shows a polyp, so there is no Dice to report: "
    ):
        partition_images(records, make_config(hospitals__count=3))
