"""Noise and epsilon: the published formula, against numbers worked out elsewhere and against dp-accounting."""

import math
import sys

import pytest
from scipy.integrate import quad
from scipy.stats import norm

from fedpolyp.errors import UsageError
from fedpolyp.privacy.accounting import (
    Noise,
    default_delta,
    delta_of,
    epsilon_of,
    epsilon_of_all,
    mu_of,
    poisson_epsilon,
    poisson_sigma,
    sigma_for,
)


@pytest.mark.parametrize(("rounds", "sigma"), [(12, 1.66), (40, 3.04), (120, 5.26)])
def test_noise_for_epsilon_8_at_delta_1e_3(rounds: int, sigma: float) -> None:
    assert round(sigma_for(8, 1e-3, rounds), 2) == sigma


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-3), (1, 1e-6), (8, 1e-3), (60, 1e-10)])
def test_noise_keeps_its_promise_and_hardly_more(epsilon: float, delta: float) -> None:
    kept = epsilon_of(mu_of([sigma_for(epsilon, delta, 40)] * 40), delta)
    assert epsilon * (1 - 1e-8) < kept <= epsilon


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.3), (3.0, 1.5), (8.0, 2.1)])
def test_delta_is_the_integral_that_defines_it(epsilon: float, mu: float) -> None:
    def gained(x: float) -> float:
        """By how much the density with a unit is over e^epsilon times that without it."""
        return max(0.0, norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x))

    crossing = epsilon / mu + mu / 2
    assert delta_of(epsilon, mu) == pytest.approx(quad(gained, crossing, crossing + 30)[0], rel=1e-6)


def test_sums_of_unequal_noise_are_together_as_one() -> None:
    assert mu_of([]) == 0.0 and epsilon_of(0.0, 1e-3) == 0.0
    assert mu_of([2.0, 2.0, 2.0, 2.0]) == 1.0
    assert mu_of([3.0, 4.0]) == pytest.approx(5 / 12)


def test_twice_the_rounds_with_the_same_noise_cost_more_than_epsilon_and_less_than_twice() -> None:
    sigma = sigma_for(8, 1e-3, 40)
    assert 8 < epsilon_of(mu_of([sigma] * 80), 1e-3) < 16


@pytest.mark.parametrize(("rounds", "epsilon"), [(12, 8.0), (40, 1.0)])
def test_the_closed_form_is_within_a_thousandth_of_the_privacy_loss_distribution(rounds: int, epsilon: float) -> None:
    found = poisson_epsilon(sigma_for(epsilon, 1e-3, rounds), 1e-3, rounds, 1.0)
    assert found == pytest.approx(epsilon, rel=1e-3)


def test_poisson_sampling_is_reckoned_as_dp_accounting_does() -> None:
    import dp_accounting
    from dp_accounting import pld

    accountant = pld.PLDAccountant()  # with its own, finer, discretization
    drawn = dp_accounting.PoissonSampledDpEvent(32 / 140, dp_accounting.GaussianDpEvent(3.04))
    accountant.compose(drawn, 600)
    assert poisson_epsilon(3.04, 1e-3, 600, 32 / 140) == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-3)


def test_noise_for_poisson_batches_keeps_its_promise_and_hardly_more() -> None:
    sigma = poisson_sigma(8, 1e-3, 12, 0.25)
    assert 7.9 < poisson_epsilon(sigma, 1e-3, 12, 0.25) <= 8
    # A batch of all units is no sampling.
    assert poisson_sigma(8, 1e-3, 12, 1.0) == pytest.approx(sigma_for(8, 1e-3, 12), rel=2e-3)


def test_without_dp_accounting_poisson_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(UsageError, match="pip install --editable '.\\[privacy\\]'"):
        poisson_epsilon(1.0, 1e-3, 10, 0.1)


@pytest.mark.parametrize(("units", "delta"), [(1, 0.1), (140, 1e-3), (200, 1e-3), (201, 1e-4), (10_000, 1e-5)])
def test_delta_by_default_is_a_fifth_of_one_over_the_units_at_most(units: int, delta: float) -> None:
    assert default_delta(units) == delta <= 0.2 / units < 10 * delta


def composed(lines: list[tuple[Noise, int]], delta: float) -> float:
    """The epsilon that dp-accounting itself gives, with its own, finer, discretization."""
    import dp_accounting
    from dp_accounting import pld

    accountant = pld.PLDAccountant()
    for (sigma, rate), count in lines:
        event = dp_accounting.GaussianDpEvent(sigma)
        accountant.compose(event if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, event), count)
    return float(accountant.get_epsilon(delta))


def test_drawn_sums_and_whole_ones_are_together_what_dp_accounting_composes_in_whatever_order() -> None:
    lines = [(Noise(3.0), 5), (Noise(1.0, 0.25), 12), (Noise(0.8, 0.05), 40), (Noise(5.0), 3)]
    sums = [noise for noise, count in lines for _ in range(count)]
    found = epsilon_of_all(sums, 1e-3)
    assert found == pytest.approx(composed(lines, 1e-3), rel=1e-3) == epsilon_of_all(sums[::-1], 1e-3)
    apart = [epsilon_of_all([noise] * count, 1e-3) for noise, count in lines]
    assert max(apart) < found < sum(apart)
    assert found < epsilon_of(mu_of(noise.sigma for noise in sums), 1e-3) / 1.5  # drawing helps


def test_sums_with_all_units_are_reckoned_exactly() -> None:
    assert epsilon_of_all([], 1e-3) == 0.0
    assert epsilon_of_all([Noise(3.0), Noise(4.0)], 1e-3) == epsilon_of(mu_of([3.0, 4.0]), 1e-3)


@pytest.mark.parametrize("noise", [Noise(0.05, 0.01), Noise(1e-6, 0.5)])
def test_where_there_is_hardly_noise_drawing_is_not_counted_on(noise: Noise) -> None:
    assert epsilon_of_all([noise, Noise(2.0)], 1e-3) == epsilon_of(mu_of([noise.sigma, 2.0]), 1e-3)


def test_a_huge_epsilon_is_bounded_without_being_tabulated(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = [Noise(0.5, 0.2)] * 40_000
    with monkeypatch.context() as patch:
        patch.setattr("fedpolyp.privacy.accounting._DISCRETIZATION", None)
        found = epsilon_of_all(sums, 1e-3)
    assert composed([(Noise(0.5, 0.2), 40)], 1e-3) < 1000 < found < epsilon_of(mu_of([0.5] * 40_000), 1e-3) / 2


@pytest.mark.parametrize(
    ("epsilon", "delta", "rounds", "rate"),
    [(1e-6, 1e-3, 10, 0.1), (1e-3, 1e-12, 100_000, 0.5), (100.0, 1e-2, 1, 0.02)],
)
def test_noise_for_poisson_batches_is_found_for_extreme_plans(
    epsilon: float, delta: float, rounds: int, rate: float
) -> None:
    sigma = poisson_sigma(epsilon, delta, rounds, rate)
    assert min(0.1, sigma_for(epsilon, delta, rounds)) <= sigma <= sigma_for(epsilon, delta, rounds)
    assert epsilon_of_all([Noise(sigma, rate)] * rounds, delta) <= epsilon * (1 + 1e-9)


def test_without_dp_accounting_a_mixture_is_refused_and_whole_sums_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert epsilon_of_all([Noise(2.0)], 1e-3) > 0
    with pytest.raises(UsageError, match="pip install --editable '.\\[privacy\\]'"):
        epsilon_of_all([Noise(2.0), Noise(2.0, 0.5)], 1e-3)
