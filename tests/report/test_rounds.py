from typing import Any

from fedpolyp.report.rounds import best_on_validation


def test_the_first_of_equally_good_rounds_is_the_best_on_validation() -> None:
    rounds = [{"round": n, "val_dice": dice} for n, dice in enumerate([0.1, None, 0.7, 0.7, 0.3])]
    assert best_on_validation(rounds) == rounds[2]


def test_a_validation_dice_of_zero_counts() -> None:
    rounds: list[dict[str, Any]] = [{"round": 0, "val_dice": None}, {"round": 1, "val_dice": 0.0}]
    assert best_on_validation(rounds) == rounds[1]


def test_without_validation_no_round_is_best() -> None:
    assert best_on_validation([{"round": 0, "val_dice": None}]) is None
