import numpy as np
import pytest

from fedpolyp.inference.agreement import agreement, disagreement


def test_agreement_is_the_mean_dice_of_pairs_and_two_that_see_nothing_agree() -> None:
    one, other, none = np.array([[1, 1, 0]]), np.array([[1, 0, 0]]), np.zeros((1, 3))
    assert agreement([one, other]) == pytest.approx(2 / 3)
    assert agreement([one, one, none]) == pytest.approx(1 / 3)
    assert agreement([none, none]) == 1


def test_where_models_differ_most_the_picture_is_white() -> None:
    fields = [np.array([[0.0, 0.5, 1.0]], np.float32), np.array([[1.0, 0.5, 1.0]], np.float32)]
    assert disagreement(fields).tolist() == [[255, 0, 0]]
