"""What hospitals do, on quadratics: SCAFFOLD, FedProx and FedNova against what can be worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Aggregate
from fedpolyp.aggregation.capped import Capped
from fedpolyp.aggregation.mean import WeightedMean
from fedpolyp.aggregation.per_step import PerStep
from fedpolyp.algorithms.base import MODEL, NoSettings
from fedpolyp.algorithms.fedavg import FedAvg
from fedpolyp.algorithms.fedprox import FedProx
from fedpolyp.algorithms.scaffold import CONTROL, Scaffold
from tests.algorithms.quadratic import RATE, QuadraticHospital, optimum, rounds


def unlike() -> list[QuadraticHospital]:
    return [QuadraticHospital((1.0, 9.0), (0.0, 4.0)), QuadraticHospital((5.0, 1.0), (3.0, -2.0), name="b")]


def test_scaffold_ends_at_everybodys_optimum_and_fedavg_does_not() -> None:
    algorithm = Scaffold(NoSettings(), hospitals=("a", "b"))
    found = rounds(algorithm, hospitals := unlike(), 300)[MODEL]["w"]
    np.testing.assert_allclose(found, optimum(hospitals), atol=1e-6)
    drifted = rounds(FedAvg(NoSettings()), hospitals := unlike(), 300)[MODEL]["w"]
    assert np.abs(drifted - optimum(hospitals)).max() > 0.1


@pytest.mark.parametrize("mean", [WeightedMean, lambda: PerStep(WeightedMean), lambda: Capped(0.6, WeightedMean)])
def test_scaffold_ends_at_the_optimum_of_the_weights_that_models_have(mean: Callable[[], Aggregate]) -> None:
    hospitals = unlike()
    hospitals[0].images = 50
    found = rounds(Scaffold(NoSettings(), hospitals=("a", "b"), mean=mean), hospitals, 300)[MODEL]["w"]
    if isinstance(mean(), Capped):
        hospitals[0].images, hospitals[1].images = 6, 4
    np.testing.assert_allclose(found, optimum(hospitals), atol=1e-6)


def test_scaffolds_server_variate_is_the_weighted_mean_of_the_hospitals_whoever_takes_part() -> None:
    hospitals = [
        QuadraticHospital((1.0, 9.0), (0.0, float(n)), images=n * n, name=name) for n, name in enumerate("abcd", 1)
    ]
    algorithm, rng = Scaffold(NoSettings(), hospitals=("a", "b", "c", "d")), np.random.default_rng(0)
    state = algorithm.begin(hospitals[0].start)
    for _ in range(20):
        aggregate = algorithm.aggregate()
        for place in sorted(rng.choice(4, 2, replace=False)):
            aggregate.add(hospitals[place].round(algorithm, algorithm.ask(state, hospitals[place].name)))
        state = algorithm.combine(state, aggregate.result())
    own = np.average([h.kept[CONTROL]["w"] for h in hospitals], axis=0, weights=[h.images for h in hospitals])
    np.testing.assert_allclose(state[CONTROL]["w"], own, atol=1e-12)


def test_scaffolds_server_variate_is_the_mean_of_the_hospitals() -> None:
    algorithm, hospitals = Scaffold(NoSettings(), hospitals=("a", "b")), unlike()
    state = rounds(algorithm, hospitals, 7)
    own = np.mean([h.kept[CONTROL]["w"] for h in hospitals], axis=0)
    np.testing.assert_allclose(state[CONTROL]["w"], own, atol=1e-12)


def test_the_mean_gradient_is_the_papers_option_two_with_plain_steps() -> None:
    algorithm, hospital = Scaffold(NoSettings(), hospitals=("a",)), unlike()[0]
    sent = {MODEL: {"w": np.array([2.0, 2.0])}, CONTROL: {"w": np.array([0.5, -0.5])}}
    before = hospital.kept = {CONTROL: {"w": np.array([0.1, 0.2])}}
    update = hospital.round(algorithm, sent)
    # c_i+ = c_i - c + (x - y_i) / (K rate)
    expected = before[CONTROL]["w"] - sent[CONTROL]["w"] - update.changes[MODEL]["w"] / (hospital.steps * RATE)
    np.testing.assert_allclose(hospital.kept[CONTROL]["w"], expected, atol=1e-12)
    np.testing.assert_allclose(update.changes[CONTROL]["w"], expected - before[CONTROL]["w"], atol=1e-12)


def test_with_a_hospital_missing_scaffolds_server_variate_moves_by_its_share() -> None:
    algorithm, hospital = Scaffold(NoSettings(), hospitals=("a", "b", "c", "d")), unlike()[0]
    state = algorithm.begin(hospital.start)
    aggregate = algorithm.aggregate()
    update = hospital.round(algorithm, algorithm.ask(state, "a"))
    aggregate.add(update)
    after = algorithm.combine(state, aggregate.result())
    np.testing.assert_allclose(after[CONTROL]["w"], update.changes[CONTROL]["w"] / 4)


def test_a_long_fedprox_training_ends_where_gradient_and_pull_are_in_balance() -> None:
    hospital = QuadraticHospital((2.0, 4.0), (1.0, -1.0), steps=2000)
    algorithm = FedProx(FedProx.Settings(mu=3.0))
    anchor = np.array([5.0, 5.0])
    update = hospital.round(algorithm, {MODEL: {"w": anchor}})
    a, b = np.array(hospital.a), np.array(hospital.b)
    np.testing.assert_allclose(anchor + update.changes[MODEL]["w"], (a * b + 3.0 * anchor) / (a + 3.0), atol=1e-9)


def test_fedprox_without_a_pull_is_fedavg() -> None:
    sent = {MODEL: {"w": np.array([5.0, 5.0])}}
    one = unlike()[0].round(FedProx(FedProx.Settings(mu=0.0)), sent).changes[MODEL]["w"]
    other = unlike()[0].round(FedAvg(NoSettings()), sent).changes[MODEL]["w"]
    np.testing.assert_array_equal(one, other)


def test_per_step_means_are_fednovas() -> None:
    hospitals = unlike()
    hospitals[0].steps, hospitals[0].images = 20, 30
    algorithm = FedAvg(NoSettings(), mean=lambda: PerStep(WeightedMean))
    state = algorithm.begin(hospitals[0].start)
    updates = [hospital.round(algorithm, state) for hospital in hospitals]
    aggregate = algorithm.aggregate()
    for update in updates:
        aggregate.add(update)
    # tau_eff = sum p_i tau_i; x += tau_eff sum p_i delta_i / tau_i, with p = (3/4, 1/4) and tau = (20, 5)
    expected = 16.25 * (0.75 * updates[0].changes[MODEL]["w"] / 20 + 0.25 * updates[1].changes[MODEL]["w"] / 5)
    np.testing.assert_allclose(algorithm.combine(state, aggregate.result())[MODEL]["w"], expected, rtol=1e-12)


def test_unequal_work_pulls_fedavg_from_the_optimum_and_per_step_means_less() -> None:
    def ends(algorithm: FedAvg) -> float:
        hospitals = [
            QuadraticHospital((1.0, 1.0), (0.0, 0.0), steps=1),
            QuadraticHospital((1.0, 1.0), (4.0, 4.0), steps=8),
        ]
        return float(np.abs(rounds(algorithm, hospitals, 400)[MODEL]["w"] - optimum(hospitals)).max())

    plain, per_step = ends(FedAvg(NoSettings())), ends(FedAvg(NoSettings(), mean=lambda: PerStep(WeightedMean)))
    assert plain > 1.0
    assert per_step < plain / 2
