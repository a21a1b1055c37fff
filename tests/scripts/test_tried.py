"""The algorithms of scripts/tried, worked out by hand."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Groups, Start

TRIED = Path(__file__).parents[2] / "scripts" / "tried"
START = Start({"w": np.zeros(2, np.float32), "n/moving_variance": np.ones(1, np.float32)}, {})


def tried(file: str, name: str, averages_optimizer: bool = False, **settings: float) -> Algorithm:
    spec = importlib.util.spec_from_file_location(file, TRIED / f"{file}.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    algorithm: type[Algorithm] = getattr(module, name)
    return algorithm(algorithm.Settings(**settings), averages_optimizer)


def after(algorithm: Algorithm, state: Groups, *changes: tuple[float, float]) -> Groups:
    """The state after a round in which each hospital's `w` changed so, and its variance by 0.5."""
    aggregate = algorithm.aggregate()
    for number, change in enumerate(changes):
        moved = {"w": np.array(change, np.float32), "n/moving_variance": np.full(1, 0.5, np.float32)}
        aggregate.add(Update(f"hospital-{number}", {MODEL: moved}, 1.0, 1, 0.0, 1))
    return algorithm.combine(state, aggregate.result())


def test_the_average_is_scored_and_the_newest_is_trained() -> None:
    algorithm = tried("ema", "EMA", decay=0.75)
    state = after(algorithm, algorithm.begin(START), (1, 1), (3, 1))
    np.testing.assert_allclose(state[MODEL]["w"], [0.5, 0.25])
    np.testing.assert_allclose(algorithm.ask(state, "hospital-0")[MODEL]["w"], [2, 1])
    state = after(algorithm, state, (1, 0), (1, 0))
    np.testing.assert_allclose(algorithm.ask(state, "hospital-0")[MODEL]["w"], [3, 1])
    np.testing.assert_allclose(state[MODEL]["w"], [0.75 * 0.5 + 0.25 * 3, 0.75 * 0.25 + 0.25 * 1])


def test_fedexp_goes_further_where_updates_disagree_and_statistics_do_not() -> None:
    algorithm = tried("fedexp", "FedExP", epsilon=0.0)
    # Mean (1, 0), its square 1; mean of the squares 10: five times as far.
    state = after(algorithm, algorithm.begin(START), (1, 3), (1, -3))
    np.testing.assert_allclose(state[MODEL]["w"], [5, 0])
    np.testing.assert_allclose(state[MODEL]["n/moving_variance"], [1.5])
    assert state.keys() == {MODEL}


def test_fedexp_is_fedavg_where_updates_agree() -> None:
    algorithm = tried("fedexp", "FedExP")
    np.testing.assert_allclose(after(algorithm, algorithm.begin(START), (1, 2), (1, 2))[MODEL]["w"], [1, 2])


def test_nesterov_looks_ahead_by_its_momentum() -> None:
    algorithm = tried("nesterov", "Nesterov", server_rate=0.5, server_momentum=0.9)
    state = after(algorithm, algorithm.begin(START), (1, 0))
    np.testing.assert_allclose(state[MODEL]["w"], [0.5 * 1.9, 0])
    state = after(algorithm, state, (0, 1))
    np.testing.assert_allclose(state[MODEL]["w"], [0.95 + 0.5 * 0.9 * 0.9, 0.5 * (0.9 + 1)], rtol=1e-6)
    np.testing.assert_allclose(state[MODEL]["n/moving_variance"], [2.0])


def test_pooled_statistics_are_those_of_all_hospitals_images_together() -> None:
    algorithm = tried("pooled_statistics", "PooledStatistics")
    rng = np.random.default_rng(0)
    few, many = rng.normal(3, 1, (4, 20)), rng.normal(-1, 2, (4, 60))  # features of two hospitals
    sent = {"n/moving_mean": np.full(4, 0.5, np.float32), "n/moving_variance": np.full(4, 2.0, np.float32)}
    aggregate = algorithm.aggregate()
    for values in (few, many):
        own = {"n/moving_mean": values.mean(1), "n/moving_variance": values.var(1)}
        changes = {name: (own[name] - sent[name]).astype(np.float32) for name in sent}
        aggregate.add(Update("hospital", {MODEL: changes}, values.shape[1], values.shape[1], 0.0, 1))
    state = algorithm.combine({MODEL: sent}, aggregate.result())
    together = np.hstack([few, many])
    np.testing.assert_allclose(state[MODEL]["n/moving_mean"], together.mean(1), rtol=1e-5)
    np.testing.assert_allclose(state[MODEL]["n/moving_variance"], together.var(1), rtol=1e-5)


@pytest.mark.parametrize("rings", [1, 2, 4])
def test_in_rings_the_model_travels_and_the_rings_are_averaged_by_images(rings: int) -> None:
    algorithm = tried("rings", "Rings", averages_optimizer=True, rings=rings)
    hospitals = [f"hospital-{number}" for number in range(4)]
    state = algorithm.begin(Start(START.model, {"steps": np.array(3.0, np.float32)}))
    stages = algorithm.stages(hospitals, np.random.default_rng(0))
    assert sorted(name for stage in stages for name in stage) == hospitals
    assert [len(stage) for stage in stages] == [rings] * (4 // rings)
    arrived: dict[str, float] = {}
    for stage in stages:
        aggregate = algorithm.aggregate()
        for name in stage:
            arrived[name] = float(algorithm.ask(state, name)[MODEL]["w"][0])
            change = {"w": np.full(2, 10.0 ** int(name[-1]), np.float32), "n/moving_variance": np.zeros(1, np.float32)}
            changes = {MODEL: change, OPTIMIZER: {"steps": np.array(1.0, np.float32)}}
            aggregate.add(Update(name, changes, 1.0 + int(name[-1]), 1, 0.0, 1))
        state = algorithm.combine(state, aggregate.result())
    assert state.keys() == {MODEL, OPTIMIZER}
    steps_done = state[OPTIMIZER]["steps"]
    assert isinstance(steps_done, np.ndarray) and steps_done.dtype == np.float32 and steps_done == 3 + 4 // rings
    ends, weights = [], []
    for ring in range(rings):
        travelled = [stage[ring] for stage in stages]
        steps = np.cumsum([0.0, *(10.0 ** int(name[-1]) for name in travelled)])
        assert [arrived[name] for name in travelled] == list(steps[:-1])
        ends.append(steps[-1])
        weights.append(sum(1.0 + int(name[-1]) for name in travelled))
    np.testing.assert_allclose(state[MODEL]["w"], np.average(ends, weights=weights), rtol=1e-6)


@pytest.mark.parametrize(("file", "name"), [("ema", "EMA"), ("fedexp", "FedExP"), ("nesterov", "Nesterov")])
def test_no_state_is_changed_in_place(file: str, name: str) -> None:
    algorithm = tried(file, name)
    state = algorithm.begin(START)
    kept = {group: {name: array.copy() for name, array in arrays.items()} for group, arrays in state.items()}
    after(algorithm, state, (1, 2), (3, 4))
    for group, arrays in kept.items():
        for array_name, array in arrays.items():
            np.testing.assert_array_equal(state[group][array_name], array)
