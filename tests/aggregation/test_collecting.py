"""Updates are kept side by side, in their order, and joined once; never of nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.collecting import Collecting
from fedpolyp.model.arrays import Arrays


def update(hospital: str, value: float) -> Update:
    return Update(hospital, {"model": {"w": np.array([value])}}, 1.0, 1, 0.5, 1)


def test_all_updates_are_joined_at_once_in_the_order_in_which_they_came() -> None:
    seen: list[list[str]] = []

    def join(updates: Sequence[Update]) -> Mapping[str, Arrays]:
        seen.append([update.hospital for update in updates])
        return {"model": {"w": np.concatenate([update.changes["model"]["w"] for update in updates])}}

    collecting = Collecting(join)
    for hospital, value in (("oslo", 3.0), ("bergen", 1.0), ("alta", 2.0)):
        collecting.add(update(hospital, value))
    assert seen == []
    combined = collecting.result()
    assert seen == [["oslo", "bergen", "alta"]] and combined.hospitals == ("oslo", "bergen", "alta")
    assert combined.changes["model"]["w"].tolist() == [3.0, 1.0, 2.0]


def test_nothing_is_not_joined() -> None:
    with pytest.raises(ValueError, match="nothing to combine"):
        Collecting(lambda updates: pytest.fail("it was joined")).result()


def test_too_few_for_what_joins_them_is_its_error() -> None:
    def join(updates: Sequence[Update]) -> Mapping[str, Arrays]:
        raise ValueError("it needs 5 updates; got 1")

    collecting = Collecting(join)
    collecting.add(update("oslo", 1.0))
    with pytest.raises(ValueError, match="needs 5 updates; got 1"):
        collecting.result()
