"""Scores against slow references written straight from their definitions."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fedpolyp import metrics

Masks = NDArray[np.uint8]


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[Masks, Masks]:
    """Two (N,H,W) uint8 stacks: each image noise of any density, a rectangle, or empty."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)))
    return draw(arrays(np.uint8, shape, elements=st.integers(0, 1))), draw(_blobs(shape))


@st.composite
def _blobs(draw: st.DrawFn, shape: tuple[int, int, int]) -> Masks:
    masks = np.zeros(shape, np.uint8)
    for mask in masks:
        top, bottom = sorted(draw(st.tuples(*[st.integers(0, shape[1])] * 2)))
        left, right = sorted(draw(st.tuples(*[st.integers(0, shape[2])] * 2)))
        mask[top:bottom, left:right] = 1
    return masks


def slow_counts(pred: Masks, truth: Masks) -> list[int]:
    outcomes = {(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}
    counts = [0, 0, 0, 0]
    for p, t in zip(pred.ravel(), truth.ravel(), strict=True):
        counts[outcomes[int(p), int(t)]] += 1
    return counts


def slow_hd95(pred: Masks, truth: Masks) -> float:
    """All pairs of boundary pixels, nearest first: no transform, no cropping, no erosion."""
    edges = [_edge_pixels(pred), _edge_pixels(truth)]
    if not all(edges):
        return float(any(edges))
    there, back = edges
    distances = [min(math.dist(a, b) for b in back) for a in there]
    distances += [min(math.dist(a, b) for b in there) for a in back]
    return float(np.percentile(distances, 95)) / math.sqrt(pred.shape[0] ** 2 + pred.shape[1] ** 2)


def _edge_pixels(mask: Masks) -> list[tuple[int, int]]:
    padded = np.pad(mask, 1)
    return [
        (y, x)
        for y, x in zip(*np.nonzero(mask), strict=True)
        if not all(padded[y + 1 + dy, x + 1 + dx] for dy, dx in [(0, 1), (0, -1), (1, 0), (-1, 0)])
    ]


@given(mask_pairs())
def test_counts_equal_counting_pixel_by_pixel(pair: tuple[Masks, Masks]) -> None:
    counts = metrics.count_pixels(*pair)
    assert counts.dtype == np.int64
    assert counts.tolist() == [slow_counts(p, t) for p, t in zip(*pair, strict=True)]


@given(mask_pairs())
def test_bool_masks_and_masks_of_255_count_like_masks_of_1(pair: tuple[Masks, Masks]) -> None:
    expected = metrics.count_pixels(*pair)
    np.testing.assert_array_equal(metrics.count_pixels(pair[0].astype(bool), pair[1] * 255), expected)


@given(mask_pairs())
def test_scores_equal_their_definitions_on_sets_of_pixels(pair: tuple[Masks, Masks]) -> None:
    counts = metrics.count_pixels(*pair)
    for i, (pred, truth) in enumerate(zip(*pair, strict=True)):
        a, b = set(np.flatnonzero(pred)), set(np.flatnonzero(truth))
        if a and b:
            assert metrics.dice(counts)[i] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
            assert metrics.iou(counts)[i] == pytest.approx(len(a & b) / len(a | b))
            assert metrics.precision(counts)[i] == pytest.approx(len(a & b) / len(a))
            assert metrics.recall(counts)[i] == pytest.approx(len(a & b) / len(b))


@given(mask_pairs())
def test_iou_is_dice_over_two_minus_dice(pair: tuple[Masks, Masks]) -> None:
    counts = metrics.count_pixels(*pair)
    np.testing.assert_allclose(metrics.iou(counts), metrics.dice(counts) / (2 - metrics.dice(counts)))


@settings(max_examples=150)
@given(mask_pairs())
def test_hd95_equals_the_distances_of_all_pairs_of_boundary_pixels(pair: tuple[Masks, Masks]) -> None:
    expected = [slow_hd95(p, t) for p, t in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.hd95(*pair), expected, atol=1e-12)


@given(mask_pairs())
def test_scores_lie_between_0_and_1(pair: tuple[Masks, Masks]) -> None:
    counts = metrics.count_pixels(*pair)
    for score in (metrics.dice, metrics.iou, metrics.precision, metrics.recall):
        assert ((score(counts) >= 0) & (score(counts) <= 1)).all()
    assert ((metrics.hd95(*pair) >= 0) & (metrics.hd95(*pair) <= 1)).all()


@given(mask_pairs())
def test_swapping_prediction_and_truth_swaps_precision_and_recall_and_nothing_else(pair: tuple[Masks, Masks]) -> None:
    counts, swapped = metrics.count_pixels(*pair), metrics.count_pixels(*pair[::-1])
    np.testing.assert_array_equal(metrics.dice(counts), metrics.dice(swapped))
    np.testing.assert_array_equal(metrics.iou(counts), metrics.iou(swapped))
    np.testing.assert_array_equal(metrics.precision(counts), metrics.recall(swapped))
    np.testing.assert_array_equal(metrics.hd95(*pair), metrics.hd95(*pair[::-1]))


def test_empty_masks_score_1_together_and_0_alone() -> None:
    empty, polyp = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    polyp[2:4, 2:4] = 1
    pred, truth = np.stack([empty, empty, polyp, polyp]), np.stack([empty, polyp, empty, polyp])
    counts = metrics.count_pixels(pred, truth)
    for score in (metrics.dice, metrics.iou, metrics.precision, metrics.recall):
        assert score(counts).tolist() == [1, 0, 0, 1]
    assert metrics.hd95(pred, truth).tolist() == [0, 1, 1, 0]


def test_hd95_of_a_moved_pixel_is_the_move_over_the_diagonal() -> None:
    pred, truth = np.zeros((2, 1, 30, 40), np.uint8)
    pred[0, 5, 5] = truth[0, 8, 9] = 1
    assert metrics.hd95(pred, truth).tolist() == [5 / 50]


def test_no_images_give_no_scores() -> None:
    none = np.zeros((0, 8, 8), np.uint8)
    assert metrics.count_pixels(none, none).shape == (0, 4)
    assert metrics.dice(metrics.count_pixels(none, none)).shape == (0,)
    assert metrics.hd95(none, none).shape == (0,)


@pytest.mark.parametrize("shapes", [((2, 4, 4), (1, 4, 4)), ((4, 4), (4, 4))])
@pytest.mark.parametrize("score", [metrics.count_pixels, metrics.hd95])
def test_masks_of_unequal_or_wrong_shape_are_refused_and_not_broadcast(
    score: Callable[[Masks, Masks], NDArray[Any]], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    with pytest.raises(ValueError, match="must both be"):
        score(np.zeros(shapes[0], np.uint8), np.zeros(shapes[1], np.uint8))


def test_importing_metrics_imports_no_framework() -> None:
    code = "import sys, fedpolyp.metrics; print({'tensorflow', 'ray', 'flwr', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_images_without_a_polyp_are_told_apart_and_what_is_seen_in_them_is_counted() -> None:
    counts = np.array([[5, 1, 2, 92], [0, 10, 0, 90], [0, 0, 0, 100], [0, 0, 3, 97]])
    assert metrics.with_polyp(counts).tolist() == [True, False, False, True]
    assert metrics.without_polyp(counts) == {"images": 2, "rate": 0.5, "area": pytest.approx(0.05)}
    assert metrics.without_polyp(counts[[0, 3]]) == {}
    assert metrics.with_polyp(counts[1:3]).tolist() == [True, True]  # a mean over none would be no number


def _reference_surface_dice(pred: Masks, truth: Masks, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> float:
    """What the package surface-distance of Nikolov et al. says."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)  # it is older than NumPy 2
    surface_distance = pytest.importorskip("surface_distance")
    found = surface_distance.compute_surface_distances(truth.astype(bool), pred.astype(bool), (1, 1))
    return surface_distance.compute_surface_dice_at_tolerance(found, tolerance)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 4])
def test_surface_dice_equals_that_of_the_package_of_its_authors(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(int(tolerance * 2))
    blobs = [cv2.GaussianBlur(rng.random((2, 40, 48))[0], (0, 0), 3) for _ in range(40)]
    masks = np.stack([(blob > np.quantile(blob, rng.uniform(0.3, 0.95))) for blob in blobs]).astype(np.uint8)
    pred, truth = masks[:20], masks[20:]
    expected = [_reference_surface_dice(p, t, tolerance, monkeypatch) for p, t in zip(pred, truth, strict=True)]
    np.testing.assert_allclose(metrics.surface_dice(pred, truth, tolerance), expected, atol=1e-12)
    assert 0 < np.mean(expected) < 1


def test_surface_dice_of_empty_masks_and_of_a_mask_and_itself() -> None:
    square = np.zeros((1, 9, 9), np.uint8)
    square[0, 2:6, 1:6] = 1
    none = np.zeros_like(square)
    pred, truth = np.concatenate([none, square, none, square]), np.concatenate([none, none, square, square])
    assert metrics.surface_dice(pred, truth, 0).tolist() == [1, 0, 0, 1]
    moved = np.roll(square, 2, axis=2)
    assert metrics.surface_dice(moved, square, 2).tolist() == [1] and metrics.surface_dice(moved, square, 1)[0] < 1
