"""A site's own images: ingested into its own folder, and split into its three sets."""

from contextlib import suppress
from dataclasses import replace

from pydantic import TypeAdapter

from fedpolyp.data.ingest import ingest
from fedpolyp.data.masks import MaskSettings
from fedpolyp.data.partition.assign import split
from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.data.pruning import keep_newest
from fedpolyp.data.sources import list_source
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import read_json
from fedpolyp.sites.settings import SiteSettings

_LISTS = TypeAdapter(HospitalImages)
_STORES = 3  # kept beside those that are open
_LISTS_BYTES = 64 * 1024**2


def images_of(settings: SiteSettings, image_size: int) -> tuple[Store, HospitalImages]:
    """The site's images at `image_size` pixels a side, and how they are split into its three sets.

    Raises:
        UsageError: there are no usable images, or the file that splits them does not fit.
        FedpolypError: the store cannot be written.
    """
    if not settings.data:
        raise UsageError("site.toml does not name a folder of images ('data')")
    masks = MaskSettings.of(settings.masks, settings.lesion_values)
    store = ingest(settings.images, image_size, settings.stores, masks, settings.group_by)
    with suppress(OSError):  # a coordinator may ask for another size in each request
        keep_newest(settings.stores, _STORES)
    wanted = settings.split
    if not wanted.file:
        return store, split(store.records, wanted.val, wanted.test, wanted.seed)
    file = settings.folder / wanted.file
    try:
        ids = _LISTS.validate_python(read_json(file, _LISTS_BYTES))
    except (FedpolypError, ValueError) as error:
        raise UsageError(f"{file} is not a JSON file with the lists train, val and test: {error}") from None
    if ids.camera is not None or ids.annotation is not None:
        raise UsageError(f"{file} has a camera or annotation errors, which only simulated hospitals have")
    everything = ids.everything
    if len(set(everything)) < len(everything):
        raise UsageError(f"{file} names an image twice")
    used = {record.id for record in store.records}
    if missing := set(everything) - used:
        # One that cannot be used, perhaps only at this size, is left out as from a random split. A request that failed
        # would tell the coordinator at which sizes the site's smallest lesion is too small.
        there = {pair.id for pair in list_source(settings.images, settings.group_by, settings.stores).listing.pairs}
        store.positions(sorted(missing - there))  # says which is not there at all
        train, val, test = (tuple(id for id in own if id in used) for own in (ids.train, ids.val, ids.test))
        ids = replace(ids, train=train, val=val, test=test)
    return store, ids
