"""What is not the model does not pass for it."""

from pathlib import Path

import numpy as np
import pytest

from fedpolyp.inference.export.check import BOUND, Trial, compare, trial
from fedpolyp.inference.export.subject import Subject
from tests.exported import SIDE, red_model

SHOWN = Trial(np.zeros((2, 4, 4, 3), np.uint8), "nothing")


def test_a_difference_in_one_pixel_is_seen() -> None:
    expected = np.full((2, 4, 4), 0.5, np.float32)
    expected[0, 0, 0] = 0.1
    assert compare(SHOWN, expected, expected.copy(), 0.5).passed
    other = expected.copy()
    other[1, 2, 3] -= 2 * BOUND
    check = compare(SHOWN, expected, other, 0.5)
    assert not check.passed and check.difference == pytest.approx(2 * BOUND, rel=1e-3) and check.flipped == 1
    other[1, 2, 3] = expected[1, 2, 3] + BOUND / 2
    assert compare(SHOWN, expected, other, 0.5).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_does_not_pass(value: float) -> None:
    expected = np.full((2, 4, 4), 0.5, np.float32)
    other = expected.copy()
    other[0, 0, 0] = value
    assert not compare(SHOWN, expected, other, 0.5).passed
    assert not compare(SHOWN, other, other, 0.5).passed


def test_another_shape_does_not_pass_even_where_it_could_be_stretched() -> None:
    expected = np.full((2, 4, 4), 0.5, np.float32)
    assert not compare(SHOWN, expected, expected[:1], 0.5).passed


def test_a_model_that_sees_the_same_everywhere_is_told_from_one_that_does_not() -> None:
    flat = np.full((2, 4, 4), 0.5, np.float32)
    assert not compare(SHOWN, flat, flat, 0.5).telling
    flat[0, 0, 0] = 0.6
    assert compare(SHOWN, flat, flat, 0.5).telling


def test_without_a_run_the_images_are_drawn_and_the_same_every_time(tmp_path: Path) -> None:
    subject = Subject.load(red_model(tmp_path / "red.keras"))
    one, other = trial(subject), trial(subject)
    assert one.of == "4 phantom frames, 4 of noise" and one.squares.shape == (8, SIDE, SIDE, 3)
    assert (one.squares == other.squares).all() and one.squares.dtype == np.uint8
