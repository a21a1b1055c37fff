"""What each hospital of a partition holds, as rows of tables."""

from collections.abc import Iterator, Sequence

from fedpolyp.data.partition.composition import Composition, Holding
from fedpolyp.data.partition.partition import HospitalImages, Partition

COLUMNS = (
    *("hospital", "images", "share", "train", "val", "test", "polyp_free", "lesion_q1", "lesion_median", "lesion_q3"),
    *("red", "green", "blue", "duplicates", "lesion_distance", "tone_distance", "camera_and_annotation"),
)
Cell = str | float | None


def rows(composition: Composition, partition: Partition) -> Iterator[Sequence[Cell]]:
    """A row of `COLUMNS` for each hospital, then one for the held-out set, whose share and sets are empty."""
    for holding in composition.hospitals:
        yield _row(holding, partition.hospitals[holding.name])
    yield _row(composition.heldout, None)


def _row(one: Holding, own: HospitalImages | None) -> Sequence[Cell]:
    sets = (None,) * 3 if own is None else (len(own.train), len(own.val), len(own.test))
    share = None if own is None else one.share
    lesions = one.lesions or (None,) * 3
    distances = one.lesion_distance, one.tone_distance
    return (
        *(one.name, one.images, share, *sets, one.polyp_free, *lesions, *one.tone, one.duplicates, *distances),
        one.note,
    )
