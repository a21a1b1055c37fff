"""Errors in masks: as large as asked, and the same whenever they are drawn."""

import numpy as np
import pytest

from fedpolyp.data.annotation import Annotation

MASKS = np.zeros((40, 64, 64), np.uint8)
MASKS[:, 24:40, 20:44] = 1
IDS = [f"image{i}" for i in range(40)]


def test_none_is_none() -> None:
    assert (Annotation().draw(MASKS, IDS) == MASKS).all()
    assert str(Annotation()) == ""


def test_a_dilated_mask_covers_the_right_one_and_an_eroded_one_lies_in_it() -> None:
    larger, smaller = Annotation(dilation=0.05).draw(MASKS, IDS), Annotation(dilation=-0.05).draw(MASKS, IDS)
    assert (larger >= MASKS).all() and (smaller <= MASKS).all()
    assert larger[0].sum() > 1.3 * MASKS[0].sum() > 1.3 * 1.3 * smaller[0].sum()
    assert larger[0][24 - 3, 32] == 1 and larger[0][24 - 4, 32] == 0


def test_a_shifted_mask_keeps_its_shape_and_goes_as_far_as_asked_in_all_directions() -> None:
    shifted = Annotation(shift=0.1).draw(MASKS, IDS)
    assert (shifted.sum(axis=(1, 2)) == MASKS[0].sum()).all()
    rows, columns = (np.array([np.argwhere(m)[:, axis].mean() for m in shifted]) for axis in (0, 1))
    moved = np.hypot(rows - 31.5, columns - 31.5)
    assert (np.abs(moved - 6.4) < 1).all()
    assert rows.min() < 28 < 35 < rows.max() and columns.min() < 28 < 35 < columns.max()


def test_about_the_asked_for_fraction_is_missing() -> None:
    empty = (Annotation(missing=0.3).draw(np.repeat(MASKS, 10, axis=0), [f"i{k}" for k in range(400)]) == 0).all((1, 2))
    assert 90 < empty.sum() < 150
    assert (Annotation(missing=1.0).draw(MASKS, IDS) == 0).all()


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(10, 20)])
def test_a_mask_has_the_same_bits_whatever_stands_beside_it(order: slice) -> None:
    annotation = Annotation(0.03, 0.05, 0.2, 7)
    assert (annotation.draw(MASKS[order], IDS[order]) == annotation.draw(MASKS, IDS)[order]).all()
    other = Annotation(0.03, 0.05, 0.2, 8).draw(MASKS, IDS)
    assert (other != annotation.draw(MASKS, IDS)).any()
