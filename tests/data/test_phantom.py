from dataclasses import astuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data import phantom
from fedpolyp.data.phantom import draw, sample_looks

Frames = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.intp]]


@pytest.fixture(scope="module")
def frames() -> Frames:
    return draw(count=150, size=64, looks=5, seed=0)


@pytest.mark.parametrize("size", [32, 64, 128, 256, 320])
def test_shapes_types_and_values_at_every_size(size: int) -> None:
    images, masks, look = draw(count=6, size=size, looks=4, seed=1)
    assert images.shape == (6, size, size, 3)
    assert masks.shape == (6, size, size)
    assert images.dtype == masks.dtype == np.uint8
    assert look.dtype == np.intp
    assert look.tolist() == [0, 1, 2, 3, 0, 1]
    assert set(np.unique(masks)) == {0, 1}
    assert masks.any(axis=(1, 2)).all()


def test_the_smallest_lesions_are_still_seen_at_the_smallest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom, "MEDIAN_FRACTION", 1e-9)
    _, masks, _ = draw(count=60, size=32, looks=3, seed=0)
    assert masks.any(axis=(1, 2)).all()
    assert np.median(masks.mean(axis=(1, 2))) < 0.02


def test_a_frame_does_not_depend_on_how_many_are_drawn() -> None:
    few, many = draw(count=4, size=64, looks=3, seed=2), draw(count=9, size=64, looks=3, seed=2)
    for k in range(3):
        np.testing.assert_array_equal(few[k], many[k][:4])


def test_same_bits_with_one_or_two_threads() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = draw(count=8, size=128, looks=3, seed=3)
        cv2.setNumThreads(2)
        together = draw(count=8, size=128, looks=3, seed=3)
    finally:
        cv2.setNumThreads(threads)
    for k in range(3):
        np.testing.assert_array_equal(alone[k], together[k])


def test_another_seed_draws_other_frames() -> None:
    one, other = draw(count=12, size=64, looks=1, seed=4)[1], draw(count=12, size=64, looks=1, seed=5)[1]
    assert (one & other).sum() < 0.5 * min(one.sum(), other.sum())  # lesions elsewhere, not only another look


def test_the_same_scene_at_every_size() -> None:
    small, large = draw(count=4, size=64, looks=2, seed=6), draw(count=4, size=256, looks=2, seed=6)
    shrunk = np.stack([cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in large[0]])
    np.testing.assert_array_equal(small[0], shrunk)


def test_nothing_hidden_by_the_border_is_lesion() -> None:
    images, masks, _ = draw(count=20, size=256, looks=6, seed=0)
    hidden = (images == images[:, :1, :1]).all(axis=-1)  # the corner pixel shows the border's colour
    assert hidden.mean() > 0.05
    assert not (hidden & (masks == 1))[:, :20, :20].any()
    assert (hidden & (masks == 1)).mean() < 1e-4


def test_looks_differ_in_tone_more_than_frames_of_a_look_do(frames: Frames) -> None:
    images, _, look = frames
    shown = images.reshape(len(images), -1, 3).astype(float)
    tone = shown[..., 2].sum(1) / shown[..., 0].sum(1)  # blue to red: the colour cast, whatever the light
    per_look = [tone[look == k] for k in range(5)]
    assert np.std([t.mean() for t in per_look]) > 1.5 * np.mean([t.std() for t in per_look])


def test_looks_are_fixed_by_seed_and_number() -> None:
    assert sample_looks(5, seed=1) == sample_looks(5, seed=1)
    assert len({astuple(look) for look in (*sample_looks(5, seed=1), *sample_looks(5, seed=2))}) == 10


def test_lesions_are_sized_like_kvasirs(frames: Frames) -> None:
    fraction = frames[1].mean(axis=(1, 2))
    quartiles = np.quantile(fraction, [0.25, 0.5, 0.75])  # Kvasir-SEG: 0.06, 0.11, 0.21
    assert (quartiles > [0.045, 0.085, 0.16]).all()
    assert (quartiles < [0.085, 0.15, 0.28]).all()
    assert 0.005 < (fraction < 0.02).mean() < 0.1
    assert fraction.max() < 0.65


def test_no_colour_threshold_segments_the_lesions(frames: Frames) -> None:
    images, masks, _ = frames
    assert max(_best_band(channel, masks == 1) for channel in _channels(images)) < 0.45


def test_the_threshold_baseline_would_find_lesions_of_one_colour(frames: Frames) -> None:
    images, masks, _ = frames
    painted = np.where(masks[..., None] == 1, np.array([90, 200, 90], np.uint8), images)
    assert max(_best_band(channel, masks == 1) for channel in _channels(painted)) > 0.8


def _channels(images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Red, green, blue, each one's share, hue (turned so that red is not cut in two), saturation, value."""
    rgb = images.astype(float) + 1
    hsv = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2HSV) for image in images]).astype(float)
    hsv[..., 0] = (hsv[..., 0] + 90) % 180
    return [*np.moveaxis(np.concatenate([rgb, rgb / rgb.sum(-1, keepdims=True), hsv], -1), -1, 0)]


def _best_band(channel: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Mean Dice per image of the best band low <= channel < high, of all bands between 12 quantiles, for all images."""
    edges = np.unique(np.quantile(channel, np.linspace(0, 1, 13)))
    edges[-1] += 1
    level = np.digitize(channel, edges) - 1
    # Pixels and lesion pixels below each edge, so that any band is a difference of two.
    below = np.stack([(level < k).sum((1, 2)) for k in range(len(edges))])
    lesion = np.stack([((level < k) & truth).sum((1, 2)) for k in range(len(edges))])
    total = truth.sum((1, 2))
    bands = [(i, j) for j in range(len(edges)) for i in range(j)]
    return max(float((2 * (lesion[j] - lesion[i]) / (below[j] - below[i] + total)).mean()) for i, j in bands)
