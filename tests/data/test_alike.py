"""The same scene is known by its details, and not by what a scope draws over every frame."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data.alike import CONFIRMED, SIDE, Looks, alike

Image = NDArray[np.uint8]


def tissue(seed: int) -> Image:
    """Reddish spots on a common, smooth ground, in a round border."""
    random = np.random.default_rng(seed)
    spots = cv2.resize(random.normal(0, 1, (64, 64)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    ground = np.mgrid[:SIDE, :SIDE][0] / 2 + 60
    light = np.clip(ground + 12 * spots, 0, 255)
    image = np.stack([light, light * 0.6, light * 0.45], axis=2).astype(np.uint8)
    shown = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (SIDE // 2, SIDE // 2), 120, 1, -1)
    return np.asarray(image * shown[..., None])


def marked(image: Image) -> Image:
    marked = image.copy()
    for row, text in enumerate(("12/03/2014", "08:41:22", "NAME: X", "SEX: F", "AGE: 61", "OLYMPUS 160")):
        cv2.putText(marked, text, (50, 60 + 25 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (250, 250, 250), 1)
    return marked


def test_a_frame_that_was_moved_turned_and_enlarged_is_the_same_scene() -> None:
    turn = cv2.getRotationMatrix2D((128, 128), 10, 1.1)
    turn[:, 2] += (5, -4)
    moved = np.asarray(cv2.warpAffine(tissue(0), turn, (SIDE, SIDE)), np.uint8)
    (pair,) = [pair for pair in alike([Looks.of(tissue(0)), Looks.of(tissue(1)), Looks.of(moved)]) if pair.confirmed]
    assert (pair.first, pair.second) == (0, 2) and pair.places >= CONFIRMED and not pair.same


def test_other_frames_with_the_same_text_and_border_are_another_scene() -> None:
    looks = [Looks.of(marked(tissue(seed))) for seed in range(4)]
    pairs = alike(looks)
    assert len(pairs) == 6 and all(pair.correlation > 0.96 for pair in pairs)  # by their thumbnails
    assert not any(pair.confirmed for pair in pairs)


def test_a_copy_that_was_saved_again_is_the_same_picture_without_any_detail() -> None:
    smooth = np.asarray(cv2.GaussianBlur(tissue(0), (0, 0), 20), np.uint8)
    again = cv2.imdecode(cv2.imencode(".jpg", smooth)[1], cv2.IMREAD_COLOR)
    (pair,) = alike([Looks.of(smooth), Looks.of(np.asarray(again, np.uint8))])
    assert pair.same and pair.confirmed and pair.places < CONFIRMED


@pytest.mark.parametrize("level", [0, 128])
def test_images_that_show_nothing_are_not_the_same_scene(level: int) -> None:
    flat = Looks.of(np.full((SIDE, SIDE, 3), level, np.uint8))
    assert alike([flat, flat]) == []


def test_one_image_is_alike_to_none() -> None:
    assert alike([Looks.of(tissue(0))]) == []
