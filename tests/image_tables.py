"""Tables of images that were never drawn, to be partitioned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp import config as configs
from fedpolyp.config import Config, HospitalsConfig
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.store import ImageRecord, IngestReport, Store


def record(number: int, group: int, lesion: float, source: str = "made up") -> ImageRecord:
    return ImageRecord(
        id=f"image{number:04d}",
        source=source,
        look=-1,
        height=500,
        width=600,
        lesion_fraction=lesion,
        tone=(0.6, 0.4, 0.3),
        group=group,
        sha256="",
    )


def make_records(sizes: Sequence[int], seed: int = 0, sources: int = 1) -> list[ImageRecord]:
    """Images in groups of these sizes, lesions of any size, near-duplicates not next to each other."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return [record(i, int(group), float(1 - rng.random()), f"source {i % sources}") for i, group in enumerate(groups)]


def make_store(records: Sequence[ImageRecord], seed: int = 0, side: int = 16) -> Store:
    """A store in memory for `records`, as they are in order: images of one colour and some noise each."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(30, 220, (len(records), 1, 1, 3))
    noise = rng.integers(0, 30, (len(records), side, side, 3))
    masks = np.zeros((len(records), side, side), np.uint8)
    masks[:, 4:9, 5:11] = 1
    images = (colours + noise).astype(np.uint8)
    return Store(Path("nowhere"), images, masks, tuple(records), IngestReport(len(records)))


def make_config(**settings: object) -> Config:
    return configs.load(overrides={name.replace("__", "."): value for name, value in settings.items()})


def all_sets(partition: Partition) -> dict[tuple[str, str], tuple[str, ...]]:
    """Every set of the partition by (hospital, kind)."""
    sets = {("", "heldout"): partition.heldout}
    for name, images in partition.hospitals.items():
        sets |= {(name, "train"): images.train, (name, "val"): images.val, (name, "test"): images.test}
    return sets


def images_at(images: HospitalImages) -> tuple[str, ...]:
    return images.train + images.val + images.test


def with_hospitals(config: Config, **settings: Any) -> Config:
    """`config` with other settings in [hospitals]; a scheme's own fall back to its defaults."""
    wanted = config.hospitals
    kept = {name: getattr(wanted, name) for name in type(wanted).model_fields}
    own = wanted.own if settings.get("scheme", wanted.scheme) == wanted.scheme else {}
    return config.model_copy(update={"hospitals": HospitalsConfig(**{**kept, **own, **settings})})
