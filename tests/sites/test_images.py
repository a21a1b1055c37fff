"""A site's stores: a coordinator that asks for ever other image sizes does not fill the disk."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.sites.images import images_of
from fedpolyp.sites.settings import SiteSettings
from tests.picture_folders import encoded, picture, shape, write_pair
from tests.real_sites import make_sites


def test_of_the_sizes_that_a_coordinator_asks_for_only_the_last_are_kept(tmp_path: Path) -> None:
    settings = SiteSettings.load(make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo" / "site.toml")
    held, _ = images_of(settings, 32)
    for size in range(40, 72, 8):
        images_of(settings, size)
        gc.collect()  # closes the store
    kept = sorted(int(store.name.split("-")[-2].removesuffix("px")) for store in settings.stores.iterdir())
    assert kept == [32, 48, 56, 64]  # the first is open
    assert held.images.shape[1] == 32 and held.images[0].any()
    del held
    gc.collect()
    images_of(settings, 48)
    assert len(list(settings.stores.iterdir())) == 3


@pytest.mark.parametrize("part", [{"camera": {"gamma": 2.0}}, {"annotation": {"missing": 0.5}}])
def test_a_sites_own_split_has_no_camera_and_no_errors_of_annotation(tmp_path: Path, part: dict[str, object]) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    (site / "split.json").write_text(json.dumps({"train": ["patient-000"], "val": [], "test": [], **part}))
    (site / "site.toml").write_text((site / "site.toml").read_text().replace('file = "" ', 'file = "split.json" '))
    with pytest.raises(UsageError, match="which only simulated hospitals have"):
        images_of(SiteSettings.load(site / "site.toml"), 32)


def test_images_of_one_patient_are_in_one_set_where_site_toml_tells_who_is_who(tmp_path: Path) -> None:
    folder = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    for number in range(30):
        image, mask = encoded(picture(number)), encoded(255 * shape(number))
        write_pair(tmp_path / "polyps", f"p{number // 5}_{number}", image, mask)
    text = (folder / "site.toml").read_text()
    assert "\n# group_by =" in text

    def patients(text: str) -> list[set[str]]:
        (folder / "site.toml").write_text(text)
        _, ids = images_of(SiteSettings.load(folder / "site.toml", str(tmp_path / "polyps")), 32)
        assert sorted(map(len, (ids.train, ids.val, ids.test)))[0] > 0
        return [{id.partition("_")[0] for id in own} for own in (ids.train, ids.val, ids.test)]

    parted = patients(text)
    assert sum(map(len, parted)) > 6
    together = patients(text.replace("\n# group_by =", "\ngroup_by = '^(p[0-9])_'\n# group_by ="))
    assert sum(map(len, together)) == 6


def test_an_image_more_changes_the_set_of_about_one_other(tmp_path: Path) -> None:
    """A model would be tested on what it was trained on, if a site's images were split anew with each that is added."""
    settings = SiteSettings.load(make_sites(tmp_path / "deploy", images=30, sites=["oslo"]) / "oslo" / "site.toml")
    _, before = images_of(settings, 32)
    for number in range(3):
        write_pair(settings.images, f"new-{number}", encoded(picture(900 + number)), encoded(255 * shape(number)))
        _, after = images_of(settings, 32)
        assert len(after.everything) == len(before.everything) + 1
        moved = [
            id for name in ("train", "val", "test") for id in set(getattr(before, name)) - set(getattr(after, name))
        ]
        assert len(moved) <= 2
        before = after


def test_at_no_size_a_request_fails_because_an_image_of_the_sites_own_list_is_too_small(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    settings = SiteSettings.load(site / "site.toml")
    speck = np.zeros((64, 64), np.uint8)
    speck[7, 7] = 255
    write_pair(settings.images, "speck", encoded(picture(900, 64, 64)), encoded(speck))
    (site / "split.json").write_text(json.dumps({"train": ["patient-000", "speck"], "val": [], "test": []}))
    (site / "site.toml").write_text((site / "site.toml").read_text().replace('file = "" ', 'file = "split.json" '))
    settings = SiteSettings.load(site / "site.toml")
    assert [images_of(settings, size)[1].train for size in (64, 32)] == [("patient-000", "speck"), ("patient-000",)]
    (site / "split.json").write_text(json.dumps({"train": ["patient-000", "speck", "gone"], "val": [], "test": []}))
    with pytest.raises(FedpolypError, match="no image 'gone' in the store"):
        images_of(settings, 32)
