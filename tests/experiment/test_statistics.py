import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedpolyp.experiment.statistics import Values, bootstrap_means, estimate, holm, p_of_no_difference, signed_rank

RANDOM = np.random.default_rng(7)
SCORES = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.floats(0, 1))


def own_groups(values: Values) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Every image its own group."""
    return np.arange(values.shape[1])


def test_with_one_seed_and_no_duplicates_it_is_the_bootstrap_of_scipy() -> None:
    values = RANDOM.beta(5, 2, (1, 80))
    ours = estimate(values, own_groups(values))
    theirs = scipy.stats.bootstrap(
        (values[0],), np.mean, method="percentile", n_resamples=10_000, random_state=np.random.default_rng(0)
    ).confidence_interval
    error = 4 * values.std() / np.sqrt(80) * 0.03  # of a quantile of 10,000 draws
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=error)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    hits = 0
    for trial in range(300):
        values = np.random.default_rng(trial).beta(4, 2, (1, 60))
        found = estimate(values, own_groups(values), draws=500, random_seed=trial)
        hits += found.low <= 4 / 6 <= found.high
    assert 0.91 <= hits / 300 <= 0.98


@pytest.mark.parametrize("seeds", [1, 6])
def test_near_duplicates_count_as_one_draw(seeds: int) -> None:
    once = np.tile(RANDOM.random((1, 40)), (seeds, 1))
    groups = np.arange(40)
    twice = estimate(np.repeat(once, 2, axis=1), np.repeat(groups, 2))
    assert (twice.low, twice.high) == pytest.approx((estimate(once, groups).low, estimate(once, groups).high))
    alone = estimate(np.repeat(once, 2, axis=1), np.arange(80))
    assert alone.high - alone.low < 0.8 * (twice.high - twice.low)


def test_seeds_widen_the_interval_from_five_on() -> None:
    images = np.tile(RANDOM.random((1, 50)), (5, 1))
    shifted = images + np.array([[-0.3], [0.3], [0.0], [-0.3], [0.3]])

    def width(values: Values) -> float:
        found = estimate(values, own_groups(values))
        return found.high - found.low

    assert width(shifted) > 2 * width(images)
    assert width(shifted[:4]) == pytest.approx(width(images[:4]))
    assert width(images) == pytest.approx(width(images[:4]), rel=0.1)  # where only images differ, both are about them


def test_where_only_seeds_differ_it_is_the_t_interval_of_their_means() -> None:
    values = np.tile(RANDOM.normal(0.02, 0.01, (5, 1)), (1, 30))
    ours, theirs = estimate(values, own_groups(values)), scipy.stats.ttest_1samp(values[:, 0], 0)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert p_of_no_difference(values, own_groups(values)) == pytest.approx(theirs.pvalue)


def test_where_only_images_differ_it_is_the_t_interval_of_the_images() -> None:
    values = np.tile(RANDOM.normal(0.02, 0.1, (1, 30)), (5, 1))
    ours, theirs = estimate(values, own_groups(values)), scipy.stats.ttest_1samp(values[0], 0)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert p_of_no_difference(values, own_groups(values)) == pytest.approx(theirs.pvalue)


def test_with_fewer_than_five_seeds_p_is_of_the_signed_rank_test() -> None:
    values = RANDOM.normal(0.02, 0.1, (4, 30))
    assert p_of_no_difference(values, own_groups(values)) == signed_rank(values, own_groups(values))


def test_a_difference_is_paired() -> None:
    hard = RANDOM.random((1, 100))
    better = hard + RANDOM.normal(0.02, 0.01, (1, 100))
    assert estimate(better - hard, own_groups(hard)).excludes_zero
    assert estimate(better, own_groups(hard)).low < estimate(hard, own_groups(hard)).high


@given(SCORES, st.data())
@settings(max_examples=60)
def test_laws_of_the_bootstrap(values: Values, data: st.DataObject) -> None:
    groups = np.array(data.draw(st.lists(st.integers(0, 5), min_size=values.shape[1], max_size=values.shape[1])))
    means = bootstrap_means(values, groups, draws=50)
    assert np.array_equal(means, bootstrap_means(values, groups, draws=50))  # same input, same numbers
    assert (means >= values.min() - 1e-9).all() and (means <= values.max() + 1e-9).all()
    assert bootstrap_means(values + 1, groups, draws=50) == pytest.approx(means + 1)
    other = 1 - values**2
    paired = bootstrap_means(values, groups, draws=50) - bootstrap_means(other, groups, draws=50)
    assert bootstrap_means(values - other, groups, draws=50) == pytest.approx(paired, abs=1e-9)
    if len(set(groups.tolist())) == 1:
        assert means == pytest.approx(np.full(50, values.mean()))


def test_more_draws_than_are_made_at_a_time_go_on_with_the_same_stream() -> None:
    values = RANDOM.random((3, 9))
    means = bootstrap_means(values, own_groups(values), draws=2500)
    assert len(means) == 2500 and len(np.unique(means)) > 2000
    assert np.array_equal(means[:1000], bootstrap_means(values, own_groups(values), draws=1000))


def test_one_image_has_an_interval_without_width() -> None:
    one = np.array([[0.4]])
    found = estimate(one, own_groups(one))
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))
    assert signed_rank(one, own_groups(one)) == 1.0
    found = estimate(np.repeat(one, 5, axis=0), own_groups(one))
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))


def test_arms_that_never_differ_have_p_one_and_an_interval_of_zero() -> None:
    none = np.zeros((2, 10))
    assert signed_rank(none, own_groups(none)) == 1.0
    assert not estimate(none, own_groups(none)).excludes_zero
    many = np.zeros((5, 10))
    assert p_of_no_difference(many, own_groups(many)) == 1.0
    assert not estimate(many, own_groups(many)).excludes_zero


def test_the_signed_rank_test_takes_each_group_once_and_seeds_averaged() -> None:
    differences = RANDOM.normal(0.1, 0.2, (3, 12))
    groups = np.repeat(np.arange(6), 2)
    of_groups = differences.mean(axis=0).reshape(6, 2).mean(axis=1)
    assert signed_rank(differences, groups) == scipy.stats.wilcoxon(of_groups).pvalue


def test_the_signed_rank_p_is_exact_for_a_few_groups() -> None:
    # Five differences of one sign: 2 of the 2^5 sign patterns are as extreme.
    assert signed_rank(np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]), np.arange(5)) == 2 / 32


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03] and holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_laws_of_holm(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= min(1.0, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
