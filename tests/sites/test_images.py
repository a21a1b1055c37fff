"""A site's stores: a coordinator that asks for ever other image sizes does not fill the disk."""

import gc
from pathlib import Path

from fedpolyp.sites.images import images_of
from fedpolyp.sites.settings import SiteSettings
from tests.real_sites import make_sites


def test_of_the_sizes_that_a_coordinator_asks_for_only_the_last_are_kept(tmp_path: Path) -> None:
    settings = SiteSettings.load(make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo" / "site.toml")
    held, _ = images_of(settings, 32)
    for size in range(40, 100, 8):
        images_of(settings, size)
        gc.collect()  # closes the store
    kept = sorted(int(store.name.split("-")[-2].removesuffix("px")) for store in settings.stores.iterdir())
    assert kept == [32, 80, 88, 96]  # the first is open
    assert held.images.shape[1] == 32 and held.images[0].any()
    del held
    gc.collect()
    images_of(settings, 80)
    assert len(list(settings.stores.iterdir())) == 3
