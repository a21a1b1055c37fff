"""The images of a run: the phantom, a source or several, as the config names them, opened as one store."""

import hashlib

from fedpolyp.config import PHANTOM, DataConfig
from fedpolyp.data.ingest import ingest_all
from fedpolyp.data.masks import MaskSettings
from fedpolyp.data.store import ImageRecord, IngestReport, Store, colour_tone, store_path, stores_folder, write_store


def open_source(config: DataConfig, seed: int) -> Store:
    """The store of `config`'s source; it is made if it does not exist. `seed` decides the phantom's frames.

    Raises:
        UsageError: a source is not recognized, has no usable pair, or its masks look wrong.
        FedpolypError: the store cannot be written, or the existing one cannot be opened.
    """
    if config.source == PHANTOM:
        return _open_phantom(config.phantom_images, config.image_size, config.phantom_looks, seed)
    masks = MaskSettings.of_config(config)
    return ingest_all(config.places, config.image_size, masks=masks, group_by=config.group_by)


def _open_phantom(count: int, size: int, looks: int, seed: int) -> Store:
    from fedpolyp.data import phantom

    path = store_path(stores_folder(), PHANTOM, size, [PHANTOM, phantom.VERSION, count, size, looks, seed])
    if path.exists():
        return Store.open(path)
    images, masks, look = phantom.draw(count, size, looks, seed)
    records = [
        ImageRecord(
            id=f"phantom-{index:05d}",
            source=PHANTOM,
            look=int(look[index]),
            height=size,
            width=size,
            lesion_fraction=float(mask.mean()),
            tone=colour_tone(image),
            group=index,  # frames are drawn independently: no two are neighbours
            sha256=hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(),
        )
        for index, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    return write_store(path, images, masks, records, IngestReport(count))
