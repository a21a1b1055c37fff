"""A plan: what a promise takes, and what is refused."""

import pytest
from pydantic import ValidationError

from fedpolyp.config import PrivacyConfig
from fedpolyp.config.sections.privacy import MOST_DRAWN
from fedpolyp.errors import UsageError
from fedpolyp.privacy.accounting import poisson_epsilon
from fedpolyp.privacy.plan import Plan


def test_noise_is_shared_by_the_units_of_a_step_and_averaged_over_hospitals() -> None:
    plan = Plan.of(140, 40, 8.0)
    assert (plan.delta, round(plan.sigma, 2)) == (1e-3, 3.04)
    assert plan.noise() == pytest.approx(plan.sigma / 140)
    assert plan.noise(4) == pytest.approx(plan.sigma / 280)


def test_drawn_batches_are_divided_by_what_is_expected_of_them() -> None:
    plan = Plan.of(140, 40, 8.0, batch=32)
    assert plan.noise() == pytest.approx(plan.sigma / 32)
    assert 7.95 < poisson_epsilon(plan.sigma, 1e-3, 40, 32 / 140) <= 8


def test_two_units_have_more_than_twice_the_epsilon_of_one() -> None:
    assert Plan.of(140, 40, 8.0).epsilon_of_several(1) == pytest.approx(8)
    assert Plan.of(140, 40, 8.0).epsilon_of_several(2) > 16


def test_others_hold_the_plan_itself_and_each_of_them_keeps_its_own_promise() -> None:
    plan = Plan.of(140, 40, 8.0)
    others = plan.others()
    assert plan in [one for row in others for one in row]
    assert [row[0].rounds for row in others] == [10, 20, 40, 80, 160]
    assert [one.epsilon for one in others[0]] == [2, 4, 8, 16]
    assert all(one.epsilon_of_several(1) == pytest.approx(one.epsilon) for row in others for one in row)


def test_a_plan_of_drawn_batches_takes_the_epsilons_that_a_run_takes() -> None:
    assert [one.epsilon for one in Plan.of(140, 40, MOST_DRAWN, batch=32).others()[0]] == [50, 100]
    drawing = {"batches": "poisson", "batch": 32}
    PrivacyConfig.model_validate(drawing | {"epsilon": MOST_DRAWN})
    with pytest.raises(ValidationError, match="takes an epsilon of 100 at most; got 100.001"):
        PrivacyConfig.model_validate(drawing | {"epsilon": MOST_DRAWN + 1e-3})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((140, 40, 0.0, None), "epsilon must be above 0, and 1000 at most; got 0"),
        ((140, 40, float("nan"), None), "epsilon must be above 0, and 1000 at most; got nan"),
        ((140, 40, 8.0, 0.01), "delta must be above 0 and below 1/140"),
        ((140, 40, 8.0, 0.0), "delta must be above 0 and below 1/140"),
        ((140, 40, 1001.0, None), "^epsilon must be above 0, and 1000 at most; got 1001"),
        ((140, 40, 100.5, None, 32), "^with drawn batches epsilon must be above 0, and 100 at most; got 100.5"),
        ((140, 40, 8.0, None, 141), "a batch has 1 to 140 of the hospital's units; got 141"),
    ],
)
def test_numbers_that_promise_nothing_are_refused(given: tuple[int, int, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Plan.of(*given)
