"""How well members are told from other images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.privacy.membership import area, found_at, success

SIGNALS = st.lists(st.integers(-3, 3), min_size=1, max_size=8).map(lambda values: np.array(values, float))


@given(SIGNALS, SIGNALS)
def test_the_area_is_the_share_of_pairs_that_are_in_order_and_a_tie_is_half_a_pair(
    members: np.ndarray, others: np.ndarray
) -> None:
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert area(members, others) == pytest.approx(np.mean(pairs))


def test_members_are_found_above_all_but_a_twentieth_of_the_others() -> None:
    others = np.arange(100.0)
    assert found_at(np.array([94.5, 95.0, 95.5, 200.0]), others) == 0.5  # above the 95th, of which five are not below
    assert found_at(others, others, false_alarms=0.0) == 0.0


def test_signals_of_one_kind_are_a_guess_and_those_of_two_are_not() -> None:
    random = np.random.default_rng(0)
    alike = success(random.normal(0, 1, 300), random.normal(0, 1, 200))
    assert alike.low <= 0.5 <= alike.high and alike.low < alike.auc < alike.high and alike.found < 0.15
    apart = success(random.normal(1, 1, 300), random.normal(0, 1, 200))
    assert 0.7 < apart.low < apart.auc < apart.high < 0.85
    sure = success(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (sure.auc, sure.found, sure.members, sure.others) == (1.0, 1.0, 2, 2)


def test_what_is_no_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="there must be members and others; got 0 and 1"):
        success(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="not a finite number"):
        success(np.array([np.nan]), np.array([1.0]))
