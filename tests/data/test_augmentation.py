"""Masks follow their images, and every draw follows from its key."""

import subprocess
import sys
from typing import TypedDict, Unpack

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedpolyp.data.augmentation import CROP, SHIFT, augment, generator, shuffle_order

Pixels = NDArray[np.uint8]


class EpochKey(TypedDict, total=False):
    """What fixes the order of an epoch, or a part of it."""

    seed: int
    round: int
    hospital: str
    epoch: int


class Key(EpochKey, total=False):
    """What fixes the draws of an image, or a part of it."""

    index: int


KEY: Key = {"seed": 0, "round": 1, "hospital": "hospital-1", "epoch": 0, "index": 0}
OTHER_EPOCHS: list[EpochKey] = [{"seed": 1}, {"round": 2}, {"hospital": "hospital-2"}, {"epoch": 1}]
OTHER_KEYS: list[Key] = [{"seed": 1}, {"round": 2}, {"hospital": "hospital-2"}, {"epoch": 1}, {"index": 1}]

BRIGHT, DARK = np.array([200, 180, 190], np.uint8), np.array([40, 50, 60], np.uint8)


def disc(side: int, x: int, y: int, radius: int) -> tuple[Pixels, Pixels]:
    """A bright disc on a dark ground as (S,S,3), and its mask."""
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return np.where(mask[..., np.newaxis] == 1, BRIGHT, DARK), mask


def noise(side: int = 64) -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (side, side, 3), np.uint8), rng.integers(0, 2, (side, side), np.uint8)


def augmented(**other: Unpack[Key]) -> tuple[Pixels, Pixels]:
    return augment(*noise(), generator(**(KEY | other)))


@settings(max_examples=200)
@given(st.sampled_from([64, 128]), st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.integers(0, 2**31 - 1))
def test_the_mask_follows_the_image(side: int, x: float, y: float, seed: int) -> None:
    image, mask = augment(*disc(side, int(x * side), int(y * side), side // 6), np.random.default_rng(seed))
    if mask.sum() > side * side / 50:  # the crop left most of the disc in sight
        bright = image.mean(axis=2) > (float(image.max()) + float(image.min())) / 2
        assert (bright & (mask == 1)).sum() / (bright | (mask == 1)).sum() > 0.9


@given(st.integers(0, 2**31 - 1))
def test_augmented_arrays_have_the_shape_type_and_values_of_those_given(seed: int) -> None:
    image, mask = augment(*noise(48), np.random.default_rng(seed))
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8
    assert mask.shape == (48, 48) and mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


def test_a_polyp_changes_place_and_size_within_the_stated_bounds() -> None:
    side, radius = 128, 20
    masks = [augment(*disc(side, 64, 64, radius), generator(**(KEY | {"index": i})))[1] for i in range(300)]
    scales = np.sqrt([mask.sum() / disc(side, 64, 64, radius)[1].sum() for mask in masks])
    assert 1 / CROP[1] - 0.02 < scales.min() < 0.87
    assert 1.37 < scales.max() < 1 / CROP[0] + 0.02
    moves = [np.mean(np.nonzero(mask), axis=1) - 63.5 for mask in masks]
    assert 8 < np.abs(moves).max() <= np.sqrt(2) * SHIFT * side / CROP[0] + 1


def test_images_are_turned_by_all_angles_and_flipped_half_of_the_time() -> None:
    # Two marks off centre, the second a quarter turn after the first: a flip makes it a quarter turn before.
    images = np.zeros((128, 128, 3), np.uint8)
    images[58:70, 88:100, 0] = images[88:100, 58:70, 1] = 255
    angles, flipped = [], []
    for index in range(400):
        image = augment(images, images[..., 0] // 255, generator(**(KEY | {"index": index})))[0].astype(float)
        first, second = (np.mean(np.nonzero(image[..., c] > image[..., c].max() - 50), axis=1) for c in (0, 1))
        middle = 63.5
        (ay, ax), (by, bx) = first - middle, second - middle
        angles.append(np.arctan2(ay, ax))
        flipped.append(ax * by - ay * bx < 0)
    assert np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0].min() > 20
    assert 160 < sum(flipped) < 240


def test_colours_change_brightness_contrast_and_the_channels_balance() -> None:
    grey = np.full((32, 32, 3), 120, np.uint8)
    grey[16:] = 60
    images = [
        augment(grey, grey[..., 0] // 120, generator(**(KEY | {"index": i})))[0].astype(float) for i in range(200)
    ]
    assert np.std([image.mean() for image in images]) > 15
    assert np.std([np.ptp(image[..., 0]) for image in images]) > 5
    assert np.std([image[..., 0].mean() - image[..., 2].mean() for image in images]) > 3


def test_the_same_key_gives_the_same_bits() -> None:
    for a, b in zip(augmented(), augmented(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(shuffle_order(0, 1, "a", 0, 50), shuffle_order(0, 1, "a", 0, 50))


def test_the_same_key_gives_the_same_draws_in_another_process() -> None:
    code = f"from fedpolyp.data.augmentation import generator; print(generator(**{KEY}).random())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == (
        f"{generator(**KEY).random()}\n"
    )


@pytest.mark.parametrize("other", OTHER_KEYS, ids=lambda other: next(iter(other)))
def test_another_key_gives_other_bits(other: Key) -> None:
    assert (augmented()[0] != augmented(**other)[0]).any()


def test_parts_of_the_key_do_not_stand_in_for_each_other() -> None:
    keys = [KEY | {"seed": s, "round": r, "epoch": e, "index": i} for s, r, e, i in np.ndindex(3, 3, 3, 3)]
    assert len({generator(**key).random() for key in keys}) == len(keys)


@pytest.mark.parametrize("other", OTHER_EPOCHS, ids=lambda other: next(iter(other)))
def test_each_epoch_round_hospital_and_seed_has_its_own_order(other: EpochKey) -> None:
    key: EpochKey = {"seed": 0, "round": 1, "hospital": "hospital-1", "epoch": 0}
    order = shuffle_order(**key, count=100)
    assert sorted(order) == list(range(100))
    assert order.dtype == np.intp
    assert (order != shuffle_order(**(key | other), count=100)).any()


def test_the_order_does_not_share_its_draws_with_the_first_image() -> None:
    order = shuffle_order(0, 1, "hospital-1", 0, 1000)
    assert (order != generator(**KEY).permutation(1000)).any()


def test_read_only_images_are_taken_and_stay_as_they_were() -> None:
    image, mask = noise()
    before = image.copy(), mask.copy()
    image.flags.writeable = mask.flags.writeable = False
    for index in range(5):
        for new, old in zip(augment(image, mask, generator(**(KEY | {"index": index}))), (image, mask), strict=True):
            assert not np.shares_memory(new, old)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_the_number_of_threads_does_not_change_the_bits() -> None:
    threads = cv2.getNumThreads()
    results = []
    try:
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            results.append(augment(*noise(256), generator(**KEY)))
    finally:
        cv2.setNumThreads(threads)
    for image, mask in results[1:]:
        np.testing.assert_array_equal(image, results[0][0])
        np.testing.assert_array_equal(mask, results[0][1])


def test_every_augmentation_takes_the_same_number_of_draws() -> None:
    streams = [np.random.default_rng(3), np.random.default_rng(3)]
    augment(*noise(), streams[0])
    augment(*disc(32, 9, 9, 5), streams[1])
    assert streams[0].random() == streams[1].random()
