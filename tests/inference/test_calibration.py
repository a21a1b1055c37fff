import numpy as np
import pytest

from fedpolyp.inference.calibration import Reliability


def test_a_model_that_says_what_is_so_has_no_error_and_one_that_is_always_sure_has() -> None:
    truth = np.array([[1, 1, 1, 0]] * 5)
    true, sure = Reliability(), Reliability()
    true.add(np.full((5, 4), 0.75, np.float32), truth)
    sure.add(np.ones((5, 4), np.float32), truth)
    assert true.curve() == [(0.75, 0.75, 20)] and true.error == pytest.approx(0)
    assert sure.curve() == [(1.0, 0.75, 20)] and sure.error == pytest.approx(0.25)


def test_bins_are_weighed_by_their_pixels() -> None:
    both = Reliability()
    both.add(np.array([[0.25, 0.25, 0.25, 0.95]], np.float32), np.array([[0, 0, 0, 1]]))
    assert both.error == pytest.approx((3 * 0.25 + 0.05) / 4)
