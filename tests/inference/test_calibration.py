import numpy as np
import pytest

from fedpolyp.inference.calibration import Reliability, calibrated, fitted


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


def _overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 40 images whose logits are three times too large, and truths drawn from the true ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, 16, 16))
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return (1 / (1 + np.exp(-3 * logits))).astype(np.float32), truth.astype(np.uint8)


def test_the_temperature_undoes_what_made_a_model_too_sure() -> None:
    probabilities, truth = _overconfident()
    found = fitted(probabilities, truth)
    assert found.temperature == pytest.approx(3, rel=0.05)
    before, after = Reliability(), Reliability()
    before.add(probabilities.reshape(-1, 16), truth.reshape(-1, 16))
    after.add(calibrated(probabilities, found.temperature).reshape(-1, 16), truth.reshape(-1, 16))
    assert after.error < 0.01 < 0.1 < before.error


def test_a_temperature_moves_no_pixel_over_a_half_and_keeps_their_order() -> None:
    probabilities = np.linspace(0, 1, 101, dtype=np.float32)
    for temperature in (0.3, 1.0, 4.0):
        warmed = calibrated(probabilities, temperature)
        assert ((warmed >= 0.5) == (probabilities >= 0.5)).all() and (np.diff(warmed) >= 0).all()
        assert warmed.dtype == np.float32 and np.isfinite(warmed).all()
    np.testing.assert_allclose(calibrated(probabilities[1:-1], 1.0), probabilities[1:-1], atol=1e-6)


def test_the_threshold_is_the_best_by_mean_dice_and_the_nearest_to_a_half_of_equals() -> None:
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    low = np.where(truth, 0.32, 0.1).astype(np.float32)
    assert fitted(low, truth).threshold == 0.3
    clear = np.where(truth, 0.9, 0.1).astype(np.float32)
    assert fitted(clear, truth).threshold == 0.5
    with pytest.raises(ValueError, match="no images"):
        fitted(low[:0], truth[:0])
