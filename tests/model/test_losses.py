"""Losses against references written from their definitions in float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedpolyp.model.losses import cross_entropy, segmentation_loss, soft_dice_loss


@st.composite
def batches(draw: Any) -> tuple[Any, Any]:
    """Truth in {0, 1} and logits, both (N, H, W) float32."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    truth = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0])))
    return truth, draw(arrays(np.float32, shape, elements=st.floats(-12, 12, width=32)))


def slow_cross_entropy(truth: Any, logits: Any) -> list[float]:
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    each = -np.where(truth == 1, np.log(probability), np.log(1 - probability))
    return [image.mean() for image in each]


def slow_soft_dice_loss(truth: Any, logits: Any) -> list[float]:
    losses = []
    for t, p in zip(truth.astype(np.float64), 1 / (1 + np.exp(-logits.astype(np.float64))), strict=True):
        losses.append(1 - (2 * (t * p).sum() + 1) / (t.sum() + p.sum() + 1))
    return losses


@given(batches())
def test_cross_entropy_is_the_mean_over_each_images_pixels(batch: Any) -> None:
    got = cross_entropy(*batch).numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, slow_cross_entropy(*batch), rtol=1e-4, atol=1e-5)


@given(batches())
def test_soft_dice_loss_is_counted_image_by_image(batch: Any) -> None:
    got = soft_dice_loss(*batch).numpy()
    assert np.all((got >= -1e-6) & (got <= 1))
    np.testing.assert_allclose(got, slow_soft_dice_loss(*batch), rtol=1e-4, atol=1e-5)


@given(batches())
def test_the_name_chooses_cross_entropy_with_or_without_dice(batch: Any) -> None:
    plain, both = (segmentation_loss(name, *batch).numpy() for name in ("bce", "bce+dice"))
    np.testing.assert_allclose(plain, slow_cross_entropy(*batch), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both - plain, slow_soft_dice_loss(*batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sure", [20.0, 200.0])
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_stays_finite(sure: float) -> None:
    truth = np.zeros((2, 8, 8), np.float32)
    truth[1, 2:5, 2:5] = 1
    logits = np.where(truth == 1, sure, -sure).astype(np.float32)
    np.testing.assert_allclose(segmentation_loss("bce+dice", truth, logits), 0, atol=1e-5)
    wrong = segmentation_loss("bce+dice", truth, -logits).numpy()
    assert np.all(np.isfinite(wrong)) and np.all(wrong >= sure)
