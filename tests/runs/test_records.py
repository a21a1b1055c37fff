"""A record of a round that somebody else wrote has a round's values, or is refused with what is wrong."""

from typing import Any

import pytest

from fedpolyp.errors import FedpolypError
from fedpolyp.runs.records import checked

GOOD: dict[str, Any] = {
    "round": 3,
    "dice": 0.5,
    "iou": 0.4,
    "val_dice": None,
    "loss": 1.0,
    "seconds": 2,
    "bytes_up": 0,
    "bytes_down": 0,
    "hospitals": {"hospital-1": {"images": 3, "train_loss": 1.0, "val_dice": 0.5}},
    "refused": [{"hospital": "hospital-2", "reason": "gone"}],
}


@pytest.mark.parametrize("more", [{}, {"steps": 4}, {"loss": None}, {"what a later version adds": [1]}])
def test_what_a_run_writes_is_taken(more: dict[str, Any]) -> None:
    assert checked(GOOD | more, "x") == GOOD | more


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"round": "3"}, "'round': Input should be a valid integer"),
        ({"round": -1}, "'round': Input should be greater"),
        ({"dice": None}, "'dice': Input should be a valid number"),
        ({"loss": float("inf")}, "'loss': Input should be a finite number"),
        ({"bytes_up": 10**30}, "'bytes_up': "),
        ({"bytes_down": -1}, "'bytes_down': "),
        ({"dice": 3e18}, "'dice': Input should be less than or equal to 1"),
        ({"val_dice": -0.1}, "'val_dice': Input should be greater than or equal to 0"),
        ({"seconds": 1e300}, "'seconds': "),
        ({"hospitals": {"a": {"images": 10**9}}}, "'hospitals.a.images': "),
        ({"hospitals": {"a": {"val_dice": 1.5}}}, "'hospitals.a.val_dice': "),
        ({"hospitals": {"../../x": {}}}, "a hospital's name has"),
        ({"hospitals": {"<script>": {}}}, "a hospital's name has"),
        ({"hospitals": {"a": 3}}, "'hospitals.a': "),
        ({"lost": 3}, "'lost': Input should be a valid string"),
        ({"refused": [{"hospital": "a"}]}, "'refused.0.reason': Field required"),
    ],
)
def test_other_values_are_refused_with_where_and_what(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FedpolypError) as refusal:
        checked(GOOD | changes, "line 4 of rounds.jsonl")
    assert str(refusal.value).startswith("line 4 of rounds.jsonl is damaged: ") and said in str(refusal.value)
