"""The mean of masked updates: nothing is read until all have opened, and only what is a sum of what was reported."""

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.opaque import MASKED, SUM, Opaque
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.fixed_point import DoesNotFit, encode
from fedpolyp.privacy.secure_sum import Opening

LIKE: dict[str, Arrays] = {"model": {"a": np.zeros((2, 2), np.float32)}}
NO_MASK = Opening(words=np.zeros(5, np.uint64))


def update(hospital: str, value: float, weight: int, said: int | None = None) -> Update:
    words = encode({"model": {"a": np.full((2, 2), value, np.float32)}}, weight, 3)
    said = weight if said is None else said
    return Update(hospital, {MASKED: {SUM: words}}, float(said), said, 0.5, 1)


def test_once_all_have_opened_it_is_the_weighted_mean_in_any_order() -> None:
    results = []
    for order in ((0, 1, 2), (2, 0, 1)):
        aggregate, updates = Opaque(LIKE), [update("a", 0.1, 3), update("b", -0.7, 1), update("c", 0.3, 9)]
        for place in order:
            aggregate.add(updates[place])
        for place in reversed(order):
            aggregate.open("abc"[place], NO_MASK)
        results.append(aggregate.result())
    assert results[0].hospitals == ("a", "b", "c") and results[1].hospitals == ("c", "a", "b")
    first, second = (own.changes["model"]["a"] for own in results)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, (0.1 * 3 - 0.7 + 0.3 * 9) / 13, atol=1e-8)


def test_as_long_as_one_has_not_opened_there_is_no_result() -> None:
    aggregate = Opaque(LIKE)
    for name in ("a", "b", "c"):
        aggregate.add(update(name, 0.1, 1))
    aggregate.open("b", NO_MASK)
    with pytest.raises(ValueError, match="the sum is closed: a, c did not open it"):
        aggregate.result()


def test_weights_that_are_not_those_that_were_reported_are_no_sum() -> None:
    aggregate = Opaque(LIKE)
    aggregate.add(update("a", 0.1, 5, said=4))
    aggregate.open("a", NO_MASK)
    with pytest.raises(DoesNotFit, match="the weight of the sum is 5, but its hospitals reported 4"):
        aggregate.result()


def test_a_mask_that_is_left_on_is_no_sum() -> None:
    aggregate = Opaque(LIKE)
    aggregate.add(update("a", 0.1, 5))
    aggregate.open("a", Opening(b"\x01" * 32))
    with pytest.raises(DoesNotFit):
        aggregate.result()


def test_nothing_is_no_mean() -> None:
    with pytest.raises(ValueError, match="there is nothing to average"):
        Opaque(LIKE).result()
