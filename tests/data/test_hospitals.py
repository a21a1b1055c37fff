"""The laws that every deal keeps, whatever the images, groups, seed and settings."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp import config as configs
from fedpolyp.data.hospitals import SCHEMES, Groups, Partition, deal, said_of_lists
from fedpolyp.data.store import ImageRecord
from fedpolyp.errors import FedpolypError, UsageError


def record(number, group, lesion):
    return ImageRecord(
        id=f"image{number:04d}",
        source="made up",
        look=-1,
        height=500,
        width=600,
        lesion_fraction=lesion,
        tone=(0.6, 0.4, 0.3),
        group=group,
        sha256="",
    )


def make_records(sizes, seed=0):
    """Images in groups of these sizes, lesions of any size, near-duplicates not next to each other."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return [record(i, int(group), float(1 - rng.random())) for i, group in enumerate(groups)]


def make_config(**settings):
    return configs.load(overrides={name.replace("__", "."): value for name, value in settings.items()})


def all_sets(partition):
    """Every set of the partition by (hospital, kind)."""
    sets = {("", "heldout"): partition.heldout}
    for name, images in partition.hospitals.items():
        sets |= {(name, "train"): images.train, (name, "val"): images.val, (name, "test"): images.test}
    return sets


def images_at(images):
    return images.train + images.val + images.test


@st.composite
def problems(draw):
    """Records with groups of 1 to 4, and a config that asks for no more hospitals than they are enough for."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=12, max_size=80))
    config = make_config(
        seed=draw(st.integers(0, 2**31 - 1)),
        data__held_out=draw(st.floats(0.01, 0.3)),
        hospitals__scheme=draw(st.sampled_from(sorted(SCHEMES))),
        hospitals__skew=draw(st.floats(0, 1)),
        hospitals__val=draw(st.sampled_from([0.0, 0.1, 0.3])),
        hospitals__test=draw(st.sampled_from([0.0, 0.1, 0.3])),
    )
    records = make_records(sizes, draw(st.integers(0, 99)))
    heldout = set(deal(records, with_hospitals(config, count=1)).heldout)
    left = len({r.group for r in records if r.id not in heldout})
    return records, with_hospitals(config, count=draw(st.integers(1, left // 3)))


def with_hospitals(config, **settings):
    return config.model_copy(update={"hospitals": config.hospitals.model_copy(update=settings)})


@given(problems())
def test_every_image_is_in_exactly_one_set_and_every_set_is_sorted(problem):
    records, config = problem
    sets = all_sets(deal(records, config))
    assert sorted(image for ids in sets.values() for image in ids) == [r.id for r in records]
    assert all(list(ids) == sorted(ids) for ids in sets.values())


@given(problems())
def test_no_duplicate_group_is_divided_between_sets_or_hospitals(problem):
    records, config = problem
    group = {r.id: r.group for r in records}
    homes = Counter(number for ids in all_sets(deal(records, config)).values() for number in {group[i] for i in ids})
    assert set(homes.values()) == {1}


@given(problems())
def test_no_set_that_was_asked_for_is_empty_and_no_other_is_filled(problem):
    records, config = problem
    partition = deal(records, config)
    assert partition.heldout
    assert len(partition.hospitals) == config.hospitals.count
    for images in partition.hospitals.values():
        assert images.train
        assert bool(images.val) == (config.hospitals.val > 0)
        assert bool(images.test) == (config.hospitals.test > 0)


@given(problems(), st.randoms())
def test_the_same_seed_gives_the_same_deal_in_whatever_order_the_images_come(problem, random):
    records, config = problem
    assert deal(random.sample(records, len(records)), config) == deal(records, config)


@given(problems())
def test_scheme_skew_and_hospitals_do_not_change_the_held_out_set(problem):
    records, config = problem
    other = with_hospitals(config, count=1, scheme="iid", val=0.2)
    assert deal(records, config).heldout == deal(records, other).heldout


@given(st.lists(st.integers(1, 4), min_size=3, max_size=60), st.sampled_from(sorted(SCHEMES)), st.data())
def test_hospitals_images_are_within_a_groups_size_of_equal_and_groups_at_least_three(sizes, scheme, data):
    groups = Groups.of(make_records(sizes))
    count = data.draw(st.integers(1, len(sizes) // 3))
    hospital = SCHEMES[scheme](groups, count, data.draw(st.floats(0, 1)), np.random.default_rng(0))
    assert np.bincount(hospital, minlength=count).min() >= 3
    if sum(sizes) / count >= 4 * max(sizes):  # else three whole groups may be more than an equal share
        images = np.bincount(hospital, weights=groups.size, minlength=count)
        assert np.abs(images - sum(sizes) / count).max() <= max(sizes)


def test_single_images_are_dealt_equally_to_within_one():
    config = make_config(hospitals__count=7, hospitals__val=0.1, hospitals__test=0.2)
    for scheme in SCHEMES:
        partition = deal(make_records([1] * 400), with_hospitals(config, scheme=scheme))
        assert len(partition.heldout) == 48
        assert {len(images_at(images)) for images in partition.hospitals.values()} == {50, 51}
        assert {len(images.val) for images in partition.hospitals.values()} == {5}
        assert {len(images.test) for images in partition.hospitals.values()} == {10}


def mean_lesions(records, partition):
    lesion = {r.id: r.lesion_fraction for r in records}
    return [np.mean([lesion[i] for i in images_at(images)]) for images in partition.hospitals.values()]


@given(st.lists(st.integers(1, 4), min_size=20, max_size=60), st.integers(0, 1000))
def test_lesion_size_with_skew_1_orders_hospitals_by_lesion_size(sizes, seed):
    records = make_records(sizes)
    config = make_config(seed=seed, hospitals__count=3, hospitals__scheme="lesion-size", hospitals__skew=1.0)
    assert all(smaller <= larger for smaller, larger in pairwise(mean_lesions(records, deal(records, config))))


def test_lesion_size_grows_more_alike_as_skew_falls_and_is_like_iid_at_0():
    records = make_records([1] * 1200)
    config = make_config(hospitals__scheme="lesion-size")
    spread = {
        skew: np.ptp(mean_lesions(records, deal(records, with_hospitals(config, skew=skew))))
        for skew in (1.0, 0.8, 0.5, 0.0)
    }
    by_chance = np.ptp(mean_lesions(records, deal(records, with_hospitals(config, scheme="iid"))))
    assert spread[1.0] > 0.75  # lesion fractions are uniform in (0,1]: five fifths have means 0.1 to 0.9
    assert spread[1.0] > spread[0.8] > spread[0.5] > 0.3
    assert max(spread[0.0], by_chance) < 0.1


def test_seeds_and_schemes_give_different_deals():
    records = make_records([1] * 60)
    deals = [
        deal(records, make_config(seed=seed, hospitals__scheme=scheme)) for seed in (0, 1) for scheme in sorted(SCHEMES)
    ]
    assert len({str(partition.hospitals) for partition in deals}) == 4
    assert len({partition.heldout for partition in deals}) == 2


def test_hospital_names_sort_by_number():
    names = list(deal(make_records([1] * 60), make_config(hospitals__count=12)).hospitals)
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("hospital-01", "hospital-12")


def test_too_many_hospitals_are_refused_with_what_there_is_and_the_most_that_works():
    records = make_records([2] * 2 + [1] * 18)
    with pytest.raises(UsageError, match=r"count is 7, .* 19 images in 18 groups .* at most 6,"):
        deal(records, make_config(hospitals__count=7))
    assert len(deal(records, make_config(hospitals__count=6)).hospitals) == 6


@pytest.mark.parametrize("sizes", [[], [1], [5], [1, 1, 1]])
def test_hardly_any_images_are_a_usage_error_and_not_a_crash(sizes):
    with pytest.raises(UsageError, match="at most 0"):
        deal(make_records(sizes), make_config(hospitals__count=1))


def write_lists(folder, train, val):
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    (folder / "val.txt").write_text("\n".join(val))
    return str(folder)


def test_lists_decide_what_is_held_out_and_what_is_dealt(tmp_path):
    records = [record(i, i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    lists = write_lists(tmp_path, [*ids[:12], "lost"], [*ids[12:16], "also lost"])
    partition = deal(records, make_config(data__lists=lists, hospitals__count=2))
    assert list(partition.heldout) == ids[12:16]
    assert sorted(i for images in partition.hospitals.values() for i in images_at(images)) == ids[:12]


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    records = [record(i, i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    (tmp_path / "train.txt").write_text("\n".join(ids[:12]), encoding="utf-8-sig")
    (tmp_path / "val.txt").write_text("\r\n".join(ids[12:]), encoding="utf-8-sig")
    config = make_config(data__lists=str(tmp_path), hospitals__count=2)
    assert list(deal(records, config).heldout) == ids[12:]
    assert said_of_lists(records, config) == []


def test_what_lists_name_in_vain_twice_or_not_at_all_is_said(tmp_path):
    records = [record(i, 99 if i in (3, 13) else i, 0.1) for i in range(20)]
    ids = [r.id for r in records]
    lost = [f"lost{i}" for i in range(7)]
    config = make_config(data__lists=write_lists(tmp_path, [*ids[:12], *lost, ids[12]], [*ids[12:16], "gone"]))
    assert said_of_lists(records, config) == [
        f"1 of 5 ids in {tmp_path / 'val.txt'} are those of no usable image: gone",
        f"7 of 20 ids in {tmp_path / 'train.txt'} are those of no usable image: lost0, lost1, lost2, lost3, lost4, …",
        f"1 images are in both lists, and held out: {ids[12]}",
        f"1 images of train.txt are near-duplicates of val.txt's, and left out: {ids[3]}",
        f"4 images are in neither list, and left out: {', '.join(ids[16:])}",
    ]
    assert said_of_lists(records, make_config()) == []


def test_a_listed_training_image_with_a_near_duplicate_in_val_is_nowhere(tmp_path):
    records = [record(i, 99 if i in (3, 13) else i, 0.1) for i in range(16)]
    ids = [r.id for r in records]
    lists = write_lists(tmp_path, ids[:12], ids[12:])
    partition = deal(records, make_config(data__lists=lists, hospitals__count=2))
    everywhere = [i for images in all_sets(partition).values() for i in images]
    assert list(partition.heldout) == ids[12:]
    assert sorted(everywhere) == [i for i in ids if i != ids[3]]


def test_lists_that_are_missing_or_name_no_image_are_usage_errors(tmp_path):
    records = make_records([1] * 20)
    with pytest.raises(UsageError, match=r"cannot read .*val\.txt"):
        deal(records, make_config(data__lists=str(tmp_path)))
    lists = write_lists(tmp_path, [r.id for r in records], ["image0001.jpg"])
    with pytest.raises(UsageError, match=r"none of the 1 ids in .*val\.txt is among the 20 images"):
        deal(records, make_config(data__lists=lists))


def test_a_saved_partition_is_read_back_equal_and_leaves_no_other_file(tmp_path):
    partition = deal(make_records([1] * 40), make_config())
    for _ in range(2):
        partition.save(tmp_path / "partition.json")
    assert Partition.load(tmp_path / "partition.json") == partition
    assert [path.name for path in tmp_path.iterdir()] == ["partition.json"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
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
def test_a_damaged_partition_is_a_fedpolyp_error_naming_the_file(tmp_path, text):
    path = tmp_path / "partition.json"
    path.write_text(text)
    with pytest.raises(FedpolypError, match=r"partition\.json is not a partition"):
        Partition.load(path)


def test_a_missing_partition_is_a_fedpolyp_error_and_an_undecodable_one_too(tmp_path):
    path = tmp_path / "partition.json"
    with pytest.raises(FedpolypError, match="cannot read"):
        Partition.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FedpolypError, match="is not a partition"):
        Partition.load(path)


def test_lists_that_cannot_be_read_are_one_plain_sentence(tmp_path: Path) -> None:
    from fedpolyp.data.hospitals import _listed

    with pytest.raises(UsageError, match="one a line: No such file or directory$"):
        _listed(tmp_path / "val.txt")
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="one a line: it is no text in UTF-8$"):
        _listed(tmp_path / "val.txt")
