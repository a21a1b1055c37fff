"""What every scheme keeps to, those that are added later, too."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from fedpolyp.config import Config, load, to_toml
from fedpolyp.data.partition.assign import counted, partition_images
from fedpolyp.data.partition.finding import SCHEMES, find
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import ImageRecord, Store
from fedpolyp.errors import UsageError
from tests.image_tables import all_sets, images_at, make_config, make_records, make_store, with_hospitals

Case = tuple[list[ImageRecord], Store, Config, Partition]

DRAWN = [name for name in SCHEMES if name != "file"]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Records, their store, a config that fits them, and the partition it makes."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=24, max_size=60))
    records = make_records(sizes, draw(st.integers(0, 99)), sources=draw(st.integers(1, 3)))
    config = make_config(
        seed=draw(st.integers(0, 2**31 - 1)),
        hospitals__scheme=draw(st.sampled_from(DRAWN)),
        hospitals__count=draw(st.integers(1, 4)),
        hospitals__skew=draw(st.floats(0, 1)),
        hospitals__min_images=draw(st.integers(3, 5)),
    )
    store = make_store(records)
    try:
        return records, store, config, partition_images(records, config, store)
    except UsageError:  # too few for the minimum
        reject()


@settings(max_examples=40)
@given(cases())
def test_every_image_is_assigned_once_and_no_group_is_divided(case: Case) -> None:
    records, _, _, partition = case
    sets = all_sets(partition)
    assert sorted(id for ids in sets.values() for id in ids) == [r.id for r in records]
    group = {r.id: r.group for r in records}
    homes = Counter(number for ids in sets.values() for number in {group[id] for id in ids})
    assert set(homes.values()) == {1}


@settings(max_examples=40)
@given(cases())
def test_every_hospital_has_the_minimum_and_something_in_each_set(case: Case) -> None:
    _, _, config, partition = case
    for images in partition.hospitals.values():
        assert len(images_at(images)) >= config.hospitals.min_images
        assert images.train and images.val and images.test


@settings(max_examples=40)
@given(cases(), st.randoms())
def test_the_same_seed_gives_the_same_partition_in_whatever_order_the_images_come(case: Case, random: Random) -> None:
    records, store, config, partition = case
    assert partition_images(random.sample(records, len(records)), config, store) == partition


@settings(max_examples=40)
@given(cases())
def test_a_saved_partition_is_read_back_equal_cameras_and_annotators_too(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    path = tmp_path_factory.mktemp("saved") / "partition.json"
    case[3].save(path)
    assert Partition.load(path) == case[3]


@pytest.mark.parametrize("name", DRAWN)
def test_a_thousand_hospitals_are_partitioned_or_refused_in_one_sentence(name: str) -> None:
    records = make_records([1] * (12_000 if name == "quantity" else 4000), sources=1000)
    of_some: dict[str, dict[str, Any]] = {"quantity": {"alpha": 50.0}, "lesion-size": {"alpha": None}}
    own = of_some.get(name, {})
    config = with_hospitals(make_config(hospitals__count=1000), scheme=name, **own)
    if name == "appearance":
        pytest.skip("a cluster for each of a thousand hospitals is seldom large enough")
    store = make_store(records)
    if name == "source":
        with pytest.raises(UsageError, match="the scheme source gives source-[0-9]+ 2 images in 2 groups"):
            partition_images(records, config, store)
        return
    partition = partition_images(records, config, store)
    names = list(partition.hospitals)
    assert len(names) == 1000 and names == sorted(names) and names[0] == "hospital-0001"


@pytest.mark.parametrize("name", SCHEMES)
def test_its_settings_are_written_out_read_back_and_explained(name: str, tmp_path: Path) -> None:
    config = load(overrides={"hospitals.scheme": name})
    text = to_toml(config, explain=True)
    for setting, field in find(name).Settings.model_fields.items():
        assert any(line.lstrip("# ").startswith(setting + " =") for line in text.splitlines())
        assert field.description and field.description.startswith(name + ": ")
    (tmp_path / "c.toml").write_text(text)
    assert load(tmp_path / "c.toml") == config


def test_an_unknown_scheme_and_another_schemes_setting_are_refused() -> None:
    with pytest.raises(UsageError, match="hospitals.scheme must be one of acquisition, .*; got 'random'"):
        make_config(hospitals__scheme="random")
    with pytest.raises(UsageError, match="hospitals.alpha is not a setting"):
        make_config(hospitals__scheme="iid", hospitals__alpha=1.0)
    with pytest.raises(UsageError, match="hospitals.alpha must be greater than or equal to 0.01; got 0"):
        make_config(hospitals__scheme="quantity", hospitals__alpha=0.0)


def test_the_config_counts_the_hospitals_that_there_are() -> None:
    records = make_records([1] * 60, sources=3)
    config = make_config(hospitals__scheme="source")
    assert counted(config, partition_images(records, config)).hospitals.count == 3
