"""The units of a guarantee: whole images, groups or patients, and no patient in two."""

from dataclasses import replace

import pytest

from fedpolyp.data.store import ImageRecord
from fedpolyp.privacy.units import fault_of_patients, units_of
from tests.image_tables import record


def of(*pairs: tuple[int, int]) -> list[ImageRecord]:
    """Images of these groups and patients."""
    return [replace(record(row, group, 0.5), patient=patient) for row, (group, patient) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("unit", "rows"),
    [("image", [[0], [1], [2], [3]]), ("group", [[0, 2], [1], [3]]), ("patient", [[0, 2], [1, 3]])],
)
def test_each_image_is_in_one_unit(unit: str, rows: list[list[int]]) -> None:
    assert units_of(of((0, 0), (1, 1), (0, 0), (3, 1)), unit) == rows


def test_groups_of_one_patient_each_have_no_fault() -> None:
    assert fault_of_patients(of((0, 0), (1, 1), (0, 0))) == ""


def test_an_image_whose_patient_is_not_known_is_counted() -> None:
    found = of((0, 0), (1, -1), (2, -1), (3, 3), (1, -1))
    assert fault_of_patients(found) == "the patient of 3 of 5 training images is not known"


def test_near_duplicates_of_two_patients_are_counted() -> None:
    assert fault_of_patients(of((0, 0), (0, 1), (2, 2))) == (
        "1 group has training images of several patients: near-duplicates, or names that differ only in case, spaces "
        "or width"
    )
    assert fault_of_patients(of((0, 0), (0, 1), (2, 2), (2, 3), (2, 2))).startswith(
        "2 groups have training images of several"
    )
