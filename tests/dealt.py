"""Tables of images that were never drawn, to be dealt."""

import numpy as np

from fedpolyp import config as configs
from fedpolyp.data.store import ImageRecord


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
