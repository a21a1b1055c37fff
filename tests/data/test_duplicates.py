"""Near-duplicates are found, joined and numbered the same way every time."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedpolyp.data import duplicates
from fedpolyp.data.alike import CONFIRMED, Alike
from fedpolyp.data.duplicates import duplicate_groups, paired, united


def frames(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth unlike images, uint8 (count, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.array([cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC) for image in coarse], dtype=np.uint8)


def brighter(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (image * 0.7 + 60).astype(np.uint8)


def test_unlike_images_are_groups_of_their_own() -> None:
    assert duplicate_groups(frames(20)).tolist() == list(range(20))


def test_a_noisier_brighter_copy_joins_the_group_of_its_original() -> None:
    images = frames(6)
    noise = np.random.default_rng(1).integers(0, 20, images[1].shape, dtype=np.uint8)
    images[4] = brighter(images[1]) + noise
    assert duplicate_groups(images).tolist() == [0, 1, 2, 3, 1, 5]


@pytest.mark.parametrize(("correlation", "together"), [(0.965, True), (0.955, False)])
def test_the_threshold_is_a_correlation_of_096(correlation: float, together: bool) -> None:
    rng = np.random.default_rng(3)
    first, second = np.linalg.qr(np.c_[np.ones(256), rng.normal(size=(256, 2))])[0].T[1:]  # zero-mean, orthonormal
    mixed = correlation * first + np.sqrt(1 - correlation**2) * second
    pixels = np.rint(128 + 500 * np.array([first, mixed])).reshape(2, 16, 16, 1)
    assert 0 <= pixels.min() <= pixels.max() <= 255
    images = np.repeat(pixels, 3, axis=3).astype(np.uint8)
    assert duplicate_groups(images).tolist() == [0, 0 if together else 1]


def test_a_chain_of_pairs_is_one_group_though_its_ends_differ() -> None:
    first, last = frames(2).astype(float)
    steps = np.linspace(0, 1, 17)[:, None, None, None]
    chain = ((1 - steps) * first + steps * last).astype(np.uint8)
    assert duplicate_groups(chain[[0, 16]]).tolist() == [0, 1]
    assert duplicate_groups(chain).tolist() == [0] * 17


def test_flat_images_correlate_with_none() -> None:
    assert duplicate_groups(np.full((3, 32, 32, 3), 7, np.uint8)).tolist() == [0, 1, 2]


def test_no_images_have_no_groups() -> None:
    assert duplicate_groups(np.empty((0, 32, 32, 3), np.uint8)).shape == (0,)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=14), st.integers(1, 15))
def test_groups_are_the_copies_whatever_their_order_and_the_chunk(originals: list[int], chunk: int) -> None:
    images = frames(6)[originals]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "CHUNK", chunk)
        assert duplicate_groups(images).tolist() == [originals.index(original) for original in originals]


def test_labels_in_common_join_groups_however_many_hops_away() -> None:
    groups = np.array([0, 1, 2, 1, 4, 5], np.intp)
    labels: list[tuple[str, ...]] = [("a",), (), ("b",), ("a", "b"), ("c",), ("c",)]
    assert united(groups, labels).tolist() == [0, 0, 0, 0, 4, 4]
    assert united(groups, [()] * 6).tolist() == groups.tolist()


def test_pairs_of_one_scene_join_groups_and_those_that_only_look_alike_do_not() -> None:
    pairs = [Alike(0, 2, 0.9, CONFIRMED, False), Alike(2, 3, 0.85, 0, True), Alike(4, 5, 0.97, CONFIRMED - 1, False)]
    assert paired(np.arange(6), pairs).tolist() == [0, 1, 0, 0, 4, 5]
