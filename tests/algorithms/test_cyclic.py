"""Cyclic weight transfer: each hospital trains the model of the one before it, in an order drawn anew each round."""

from pathlib import Path

import numpy as np

from fedpolyp.algorithms.base import MODEL, NoSettings, Start, minus, plus
from fedpolyp.algorithms.cyclic import Cyclic
from fedpolyp.data.source import open_source
from fedpolyp.training import learning_rate, shared_trainer
from tests.algorithms.quadratic import RATE, QuadraticHospital
from tests.tiny import carry_listening, tiny_config, tiny_run, weights


def test_a_round_is_all_trainings_one_after_the_other_and_no_mean() -> None:
    hospitals = {
        "a": QuadraticHospital((1.0, 9.0), (0.0, 4.0), images=50),
        "b": QuadraticHospital((5.0, 1.0), (3.0, -2.0), steps=9),
        "c": QuadraticHospital((2.0, 2.0), (7.0, 1.0), steps=1),
    }
    algorithm, draws = Cyclic(NoSettings()), np.random.default_rng(0)
    state, expected, orders = algorithm.begin(Start({"w": np.zeros(2)}, {})), np.zeros(2), set[tuple[str, ...]]()
    for _ in range(12):
        stages = algorithm.stages([*hospitals], draws)
        orders.add(tuple(name for (name,) in stages))
        for (name,) in stages:
            aggregate = algorithm.aggregate()
            aggregate.add(hospitals[name].round(algorithm, algorithm.ask(state, name)))
            state = algorithm.combine(state, aggregate.result())
            a, b = np.array(hospitals[name].a), np.array(hospitals[name].b)
            expected = b + (1 - RATE * a) ** hospitals[name].steps * (expected - b)
        np.testing.assert_allclose(state[MODEL]["w"], expected, rtol=1e-12)
    assert len(orders) > 2 and all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_in_a_run_the_model_travels_in_another_order_in_each_round(tmp_path: Path) -> None:
    config = tiny_config(algorithm__name="cyclic", training__optimizer_state="reset")
    run = tiny_run(tmp_path / "run", config)
    asked = carry_listening(run, config)
    orders = [[one.hospital for one in asked if (one.kind, one.round) == ("train", round)] for round in (1, 2, 3)]
    assert all(sorted(order) == sorted(run.partition().hospitals) for order in orders)
    assert not orders[0] == orders[1] == orders[2]
    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    model = trainer.initial
    for round, order in enumerate(orders, 1):
        for hospital in order:
            rows = store.positions(run.partition().hospitals[hospital].train)
            about = {"hospital": hospital, "round": round, "learning_rate": learning_rate(config, round)}
            after = trainer.train(model, store.images[rows], store.masks[rows], **about).arrays  # type: ignore[arg-type]
            model = plus(model, minus(after, model))
    for name, array in weights(run, config).items():
        np.testing.assert_allclose(array, model[name], rtol=1e-4, atol=1e-5)
