from typing import Any

import numpy as np
import pytest

from fedpolyp.inference.lesions import Lesion, lesions

near: Any = pytest.approx  # what stands in a Lesion for a number


def test_each_connected_part_is_one_with_its_box_area_and_mean_probability() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[1:3, 2:4] = 1
    mask[3, 4] = 1  # touches by a corner
    mask[6:10, 10:20] = 1
    probability = np.where(mask, 0.75, 0.1).astype(np.float32)
    probability[1, 2] = 0.5
    large, small = lesions(mask, probability)
    assert large == Lesion(10, 6, 10, 4, 40 / 200, near(0.75))
    assert small == Lesion(2, 1, 3, 3, 5 / 200, near(0.7))


def test_an_empty_mask_has_none() -> None:
    assert lesions(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.float32)) == ()
