from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpolyp.report.predictions import choose, draw_predictions


def test_the_best_the_median_and_the_worst_are_chosen() -> None:
    dices = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.8, 0.2, 0.6, 0.4])
    assert choose(dices, 3) == {"best": [2, 5, 4], "median": [7, 0, 8], "worst": [3, 6, 1]}


def test_equal_scores_keep_the_order_of_the_images() -> None:
    assert choose(np.zeros(6), 2) == {"best": [0, 1], "median": [2, 3], "worst": [4, 5]}


@pytest.mark.parametrize(("images", "size"), [(1, 32), (3, 48), (20, 512)])
def test_a_picture_is_drawn_of_few_and_many_small_and_large_images(tmp_path: Path, images: int, size: int) -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((2, images, size, size), np.uint8)
    masks[0, :, 4:20, 4:20] = 1  # nothing is predicted
    frames = random.integers(0, 255, (images, size, size, 3), np.uint8)
    path = tmp_path / "predictions.png"
    draw_predictions(
        path, frames, masks[0], masks[1], [f"{'long' * 20}-{n}" for n in range(images)], random.random(images)
    )
    picture = cv2.imread(str(path))
    columns = min(4, images)
    assert picture is not None
    assert columns * 256 < picture.shape[1] < columns * 256 + 100 and picture.shape[0] > 3 * 256
