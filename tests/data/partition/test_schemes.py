"""What each scheme is there for."""

from collections.abc import Sequence

import numpy as np
import pytest

from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.partition.schemes.appearance import appearance, k_means
from fedpolyp.data.partition.schemes.quantity import Quantity
from fedpolyp.data.store import ImageRecord, Store
from fedpolyp.errors import UsageError
from tests.image_tables import images_at, make_config, make_records, make_store, record, with_hospitals

RECORDS = make_records([1] * 300)


def sizes_of(partition: Partition) -> list[int]:
    return [len(images_at(images)) for images in partition.hospitals.values()]


def by_scheme(
    name: str, records: Sequence[ImageRecord] = RECORDS, store: Store | None = None, seed: int = 0, **settings: object
) -> Partition:
    config = with_hospitals(make_config(seed=seed), scheme=name, **settings)
    return partition_images(records, config, store)


def test_quantity_grows_more_equal_with_alpha_and_leaves_lesions_alike() -> None:
    spread = {alpha: np.ptp(sizes_of(by_scheme("quantity", alpha=alpha))) for alpha in (0.5, 5.0, 5000.0)}
    assert spread[0.5] > spread[5.0] > spread[5000.0] <= 8
    lesion = {r.id: r.lesion_fraction for r in RECORDS}
    means = [
        np.mean([lesion[i] for i in images_at(own)]) for own in by_scheme("quantity", alpha=5.0).hospitals.values()
    ]
    assert np.ptp(means) < 0.25


def test_draws_that_never_are_enough_end_in_a_sentence_that_says_what_to_change() -> None:
    with pytest.raises(UsageError, match=r"in 100 draws some of the 5 hospitals .* fewer than 50 images .*--alpha"):
        by_scheme("quantity", alpha=0.05, min_images=50)
    with pytest.raises(UsageError, match="a larger --alpha, more --bins"):
        by_scheme("lesion-size", alpha=0.01, min_images=50)


@pytest.mark.parametrize("alpha", [0.01, 1e6])
def test_the_most_extreme_concentrations_give_finite_shares(alpha: float) -> None:
    settings = Quantity.Settings(alpha=alpha)
    try:
        hospital = Quantity(settings).assign(Groups.of(RECORDS), 2, np.random.default_rng(0))
    except UsageError:
        return
    assert set(hospital.tolist()) == {0, 1}


def test_lesion_size_by_dirichlet_mixes_bins_unequally_and_less_so_as_alpha_grows() -> None:
    lesion = {r.id: r.lesion_fraction for r in RECORDS}

    def spread(alpha: float) -> float:
        partition = by_scheme("lesion-size", alpha=alpha, bins=4)
        return float(np.ptp([np.mean([lesion[i] for i in images_at(own)]) for own in partition.hospitals.values()]))

    assert spread(0.3) > 0.3 > 0.15 > spread(1000.0)


def test_appearance_gives_each_hospital_a_look_of_its_own_and_none_at_skew_0() -> None:
    records = [record(i, i, 0.1) for i in range(120)]
    store = make_store(records)
    store.images[:] = store.images // 20 + 100
    store.images[:60, ..., 0] = 200
    sides = [
        {int(id.removeprefix("image")) < 60 for id in images_at(own)}
        for own in by_scheme("appearance", records, store, count=2, skew=1.0).hospitals.values()
    ]
    assert all(len(of) == 1 for of in sides)
    mixed = by_scheme("appearance", records, store, count=2, skew=0.0)
    assert all(
        {int(id.removeprefix("image")) < 60 for id in images_at(own)} == {True, False}
        for own in mixed.hospitals.values()
    )


def test_appearance_tells_colour_and_texture() -> None:
    flat = np.full((32, 32, 3), 120, np.uint8)
    rough = flat.copy()
    rough[::2, ::2] = 200
    red = flat.copy()
    red[..., 0] = 220
    assert appearance(flat).shape == (10,)
    assert appearance(rough)[6:].sum() > appearance(flat)[6:].sum() + 1
    assert appearance(red)[1] > appearance(flat)[1] + 20


def test_k_means_finds_what_is_apart_and_leaves_no_cluster_empty() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(at, 0.05, (30, 3)) for at in (0, 5, 9)])
    assert k_means(points, 3, rng).tolist() == [0] * 30 + [1] * 30 + [2] * 30
    same = k_means(np.zeros((8, 2)), 3, rng)
    assert set(same.tolist()) == {0, 1, 2}


def test_a_scheme_that_looks_at_pixels_says_so_when_there_are_none() -> None:
    with pytest.raises(ValueError, match="looks at pixels"):
        by_scheme("appearance")


def test_each_source_is_a_hospital_or_several() -> None:
    records = make_records([1] * 90, sources=3)
    source = {r.id: r.source for r in records}
    one = by_scheme("source", records)
    assert list(one.hospitals) == ["source-0", "source-1", "source-2"]
    for name, own in one.hospitals.items():
        assert {source[id].replace(" ", "-") for id in images_at(own)} == {name}
    two = by_scheme("source", records, per_source=2)
    assert list(two.hospitals) == [f"source-{k}-{n}" for k in range(3) for n in (1, 2)]
    assert max(sizes_of(two)) - min(sizes_of(two)) <= 6


def test_near_duplicates_in_two_sources_go_where_most_of_them_are() -> None:
    records = [record(i, min(i, 40) if i > 36 else i, 0.1, "a" if i < 38 else "b") for i in range(80)]
    groups = Groups.of(records)
    assert groups.source[groups.images.index(tuple(f"image{i:04d}" for i in range(40, 80)))] == "b"


def test_sources_that_would_be_hospitals_of_one_name_or_called_pooled_are_refused() -> None:
    records = [record(i, i, 0.1, "a b" if i % 2 else "a-b") for i in range(40)]
    with pytest.raises(UsageError, match="two sources would be hospitals of one name: a b, a-b"):
        by_scheme("source", records)
    with pytest.raises(UsageError, match="a hospital cannot be called 'pooled'"):
        by_scheme("source", [record(i, i, 0.1, "pooled") for i in range(40)])


def test_acquisition_and_labels_assign_as_iid_does_and_add_to_it() -> None:
    plain, taken, labelled = (by_scheme(name) for name in ("iid", "acquisition", "labels"))
    for name, own in plain.hospitals.items():
        for other in (taken, labelled):
            assert images_at(other.hospitals[name]) == images_at(own)
    assert len({own.camera for own in taken.hospitals.values()}) == 5
    assert taken.heldout_camera is None
    assert sum(own.annotation is not None for own in labelled.hospitals.values()) == 2
    assert all(own.camera is None for own in labelled.hospitals.values())


def test_the_held_out_set_has_a_camera_when_asked_which_is_no_hospitals() -> None:
    partition = by_scheme("acquisition", heldout_camera=True)
    assert partition.heldout_camera is not None
    assert partition.heldout_camera not in {own.camera for own in partition.hospitals.values()}
