"""What a hospital says of its number of images is known, registered, or steady."""

import pytest

from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.rounds.image_counts import MOST, ImageCounts


def test_in_a_simulation_the_partition_knows_every_number() -> None:
    counts = ImageCounts.of(Partition((), {"h1": HospitalImages(("a", "b", "c"), ("d",), ())}))
    assert counts.fault("h1", "train", 3) is None and counts.fault("h1", "test", 0) is None
    assert counts.fault("h1", "train", 10**9) == "it reports 1000000000 train images, and has 3"
    assert counts.fault("h1", "test", 200_000) == "it reports 200000 test images, and has 0"
    assert counts.outsized("val", {"h1": 1, "h2": 10_000, "h3": 1}) == {}


def test_a_sites_number_stays_what_it_was_first_also_after_a_resume() -> None:
    counts = ImageCounts.at_sites([], {})
    assert counts.fault("oslo", "train", 40) is None
    counts.learn("oslo", "train", 40)
    assert counts.fault("oslo", "train", 41) == "it reports 41 train images, and has 40"
    records = [{"hospitals": {"oslo": {"images": 40, "train_loss": 0.5, "val_images": 5, "val_dice": None}}}]
    resumed = ImageCounts.at_sites(records, {})
    assert resumed.known == {("oslo", "train"): 40, ("oslo", "val"): 5}
    assert resumed.fault("oslo", "val", 500) is not None and resumed.fault("oslo", "test", 5) is None


def test_a_registered_site_has_no_more_in_all_its_sets_together() -> None:
    counts = ImageCounts.at_sites([], {"oslo": 50})
    counts.learn("oslo", "train", 40)
    assert counts.fault("oslo", "val", 10) is None
    said = counts.fault("oslo", "test", 200_000)
    assert said == "it reports 200000 test images, 200040 with its other sets, of 50 registered"


@pytest.mark.parametrize("images", [MOST + 1, 10**9])
def test_a_number_that_no_hospital_has_needs_a_registration(images: int) -> None:
    said = ImageCounts.at_sites([], {}).fault("oslo", "test", images)
    assert said is not None and "coordinator.toml" in said
    assert ImageCounts.at_sites([], {"oslo": images}).fault("oslo", "test", images) is None


def test_claimed_test_images_do_not_own_the_score() -> None:
    counts = ImageCounts.at_sites([], {"bergen": 50_000})
    assert list(counts.outsized("test", {"oslo": 99_000, "bergen": 50_000, "a": 5, "b": 6, "c": 5})) == ["oslo"]
    assert counts.outsized("test", {"oslo": 99_000, "a": 5}) == {}
