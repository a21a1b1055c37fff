import numpy as np

from fedpolyp.inference.detection import Detection, detect


def box(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((20, 20), np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = 1
    return mask


def test_a_lesion_is_found_from_half_an_overlap_on() -> None:
    truth = box((0, 0, 4, 6))  # 24 pixels
    assert detect(box((0, 0, 4, 3)), truth) == Detection(1, 1, 0)  # 12 of 24: a half
    assert detect(box((0, 0, 4, 2)), truth) == Detection(1, 0, 1)


def test_what_overlaps_none_enough_is_false_and_what_nothing_overlaps_is_missed() -> None:
    truth = box((0, 0, 5, 5), (10, 10, 5, 5))
    assert detect(box((0, 0, 5, 5), (15, 0, 3, 3)), truth) == Detection(2, 1, 1)


def test_one_prediction_over_two_lesions_finds_neither_twice() -> None:
    assert detect(box((0, 0, 4, 9)), box((0, 0, 4, 4), (0, 5, 4, 4))) == Detection(2, 0, 1)


def test_empty_masks() -> None:
    assert detect(box(), box()) == Detection(0, 0, 0)
    assert detect(box((1, 1, 2, 2)), box()) == Detection(0, 0, 1)
    assert detect(box(), box((1, 1, 2, 2))) == Detection(1, 0, 0)
