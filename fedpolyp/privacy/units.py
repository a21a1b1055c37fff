"""What a privacy guarantee protects as a whole: an image, a group of images that belong together, or a patient.

A sum changes by at most the clip if a whole unit is absent. If a part of a unit is absent, it may change by twice the
clip. So no image may be in two units, and a patient's images must all be in one.
"""

from collections.abc import Iterable, Sequence

from fedpolyp.data.store import ImageRecord


def units_of(records: Iterable[ImageRecord], unit: str) -> list[list[int]]:
    """The rows of `records` that form a unit: each 'image', each 'group', or all images of a 'patient'.

    For a 'patient', `fault_of_patients` must be ''. Then no group has images of two patients.
    """
    if unit == "image":
        return [[row] for row, _ in enumerate(records)]
    found: dict[int, list[int]] = {}
    for row, record in enumerate(records):
        found.setdefault(record.patient if unit == "patient" else record.group, []).append(row)
    return list(found.values())


def fault_of_patients(records: Sequence[ImageRecord], called: str = "training") -> str:
    """Why the images of `records`, which are `called` this, cannot be protected patient by patient; '' if they can.

    Each image's patient must be known. A group may not have images of two patients: they may be one person with two
    numbers, or with a name that is written in two ways, and as one unit neither of them would have the guarantee alone.
    """
    if unknown := sum(record.patient < 0 for record in records):
        return f"the patient of {unknown} of {len(records)} {called} images is not known"
    patients: dict[int, set[int]] = {}
    for record in records:
        patients.setdefault(record.group, set()).add(record.patient)
    if joined := sum(len(own) > 1 for own in patients.values()):
        groups = "1 group has" if joined == 1 else f"{joined} groups have"
        return (
            f"{groups} {called} images of several patients: near-duplicates, or names that differ only in case, spaces "
            "or width"
        )
    return ""
