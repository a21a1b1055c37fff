"""What no gradients can make is refused; what they can make is not, to the last bit that rounding may change."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.algorithms.base import minus
from fedpolyp.config import Config, load
from fedpolyp.model.arrays import Arrays, is_statistic
from fedpolyp.model.registry import ENCODER
from fedpolyp.optimizers import Muon, optimizer_of
from fedpolyp.rounds.possible import ADAM, fault_of_moments, fault_of_weights
from fedpolyp.training import Trainer
from tests.bfloat16 import computes_in_bfloat16
from tests.real_sites import tiny

SIZE = 256
B1, B2 = ADAM


def gradients(kind: str, steps: int) -> Iterator[NDArray[np.float32]]:
    """Hard sequences: (SIZE,) each, of sizes from 1e-30 to 1e8."""
    rng = np.random.default_rng(0)
    scale = np.logspace(-30 if kind == "small" else -6, 8, SIZE)
    for step in range(steps):
        if kind == "extreme":  # with which the bound is reached
            with np.errstate(over="ignore"):
                yield (scale * (B1 / B2) ** min(steps - 1 - step, 400)).astype(np.float32)
        elif kind == "once":
            yield (scale * (step == 0)).astype(np.float32)
        elif kind == "last":
            yield (scale * (step == steps - 1)).astype(np.float32)
        elif kind == "signs":
            yield (scale * (-1) ** step).astype(np.float32)
        else:
            yield (scale * rng.standard_cauchy(SIZE).clip(-1e3, 1e3)).astype(np.float32)


def adam(kind: str, steps: int, before: Arrays | None) -> Arrays:
    """The moments that Keras's own Adam has after these steps."""
    weights = keras.Variable(np.zeros(SIZE, np.float32))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build([weights])
    if before is not None:
        optimizer._momentums[0].assign(before["m/w"])
        optimizer._velocities[0].assign(before["v/w"])
    for gradient in gradients(kind, steps):
        optimizer.apply([gradient], [weights])
    return {"m/w": optimizer._momentums[0].numpy(), "v/w": optimizer._velocities[0].numpy()}


FRESH: Arrays = {"m/w": np.zeros(SIZE, np.float32), "v/w": np.zeros(SIZE, np.float32)}
KINDS = ["extreme", "once", "last", "signs", "wild", "small"]


@pytest.mark.parametrize("steps", [1, 2, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_the_moments_of_whatever_gradients_are_possible(kind: str, steps: int) -> None:
    first = adam(kind, steps, None)
    assert fault_of_moments(minus(first, FRESH), FRESH, steps) == ""
    for other in KINDS:
        assert fault_of_moments(minus(adam(other, steps, first), first), first, steps) == "", other


@pytest.mark.parametrize("steps", [1, 3, 300])
def test_moments_a_little_beyond_what_gradients_can_make_are_not(steps: int) -> None:
    before = adam("wild", 5, None)
    after = adam("extreme", steps, before)
    for change in ({"m/w": 1.01 * after["m/w"]}, {"v/w": 0.98 * after["v/w"]}, {"v/w": 0 * after["v/w"]}):
        assert fault_of_moments(minus(after | change, before), before, steps).startswith(
            ("its first moments of w", "its second")
        ), change
    hostile = {"m/w": np.full(SIZE, 1e6, np.float32), "v/w": before["v/w"]}
    assert fault_of_moments(minus(hostile, before), before, steps) != ""


def test_one_weight_among_many_is_enough() -> None:
    after = adam("wild", 3, None)
    after["m/w"][17] *= 40
    assert fault_of_moments(minus(after, FRESH), FRESH, 3) == (
        "its first moments of w cannot result from gradients and the moments that it was sent"
    )


def test_the_last_of_many_weights_is_looked_at_too() -> None:
    before: Arrays = {"m/w": np.zeros((300, 301), np.float32), "v/w": np.zeros((300, 301), np.float32)}
    change = {name: np.zeros_like(array) for name, array in before.items()}
    change["m/w"][-1, -1] = 1
    assert fault_of_moments(change, before, 3).startswith("its first moments of w cannot result")


def test_the_bound_is_that_of_the_optimizers_that_are_used() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for name in ("adam", "adamw"):
        optimizer: Any = optimizer_of(load(overrides={"training.optimizer": name}).training, model)
        assert (optimizer.beta_1, optimizer.beta_2) == ADAM and not optimizer.amsgrad
    assert Muon.ADAM[0] == ADAM


@lru_cache(maxsize=1)
def made(config: Config) -> Trainer:
    return Trainer(config)


def train(config: Config, start: Arrays, moments: Arrays, round: int) -> tuple[Arrays, Arrays, int]:
    trainer, rng = made(config), np.random.default_rng(round)
    images, masks = rng.integers(0, 256, (10, 32, 32, 3), np.uint8), rng.integers(0, 2, (10, 32, 32), np.uint8)
    after = trainer.train(
        start, images, masks, hospital="oslo", round=round, learning_rate=0.05, optimizer=moments or None
    )
    return after.arrays, after.optimizer, after.steps


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        *((name, "float32") for name in ("adam", "adamw", "muon", "sgd")),
        pytest.param("adam", "mixed_bfloat16", marks=computes_in_bfloat16),
    ],
)
def test_a_real_training_is_possible_round_after_round(optimizer: str, precision: str) -> None:
    config = tiny(training__optimizer=optimizer, training__precision=precision, training__local_epochs=5)
    weights, moments = made(config).initial, made(config).start.optimizer
    for round in (1, 2, 3):
        after, moved, steps = train(config, weights, moments, round)
        assert fault_of_weights(minus(after, weights), config, round) == ""
        assert fault_of_moments(minus(moved, moments), moments, steps) == ""
        # As the server averages: with those of a hospital that has not trained.
        moments = {name: np.asarray((moments[name] + moved[name]) / 2, moved[name].dtype) for name in moved}
        weights = after


@pytest.mark.parametrize("setting", [{"model__frozen_statistics": True}, {"model__encoder_rate": 0.0}])
def test_what_a_real_training_leaves_as_it_was_is_refused_when_it_has_moved(setting: dict[str, Any]) -> None:
    pretrained = {"model__encoder": "efficientnet-lite0", "model__encoder_weights": "random", "model__base_filters": 2}
    config = tiny(**pretrained, **setting)
    before = made(config).initial
    after = train(config, before, {}, 1)[0]
    assert fault_of_weights(minus(after, before), config, 1) == ""
    (setting_name,) = (name.replace("__", ".") for name in setting)
    kept = [name for name in before if name.startswith(ENCODER) and is_statistic(name) == ("frozen" in setting_name)]
    for name in (kept[0], kept[-1]):
        nudged = after | {name: np.nextafter(after[name], np.float32(9))}
        assert f"array {name} has changed, and {setting_name}" in fault_of_weights(minus(nudged, before), config, 1)
        assert fault_of_weights(minus(nudged, before), tiny(**pretrained), 1) == ""


def test_statistics_that_move_after_they_were_fixed_are_refused() -> None:
    config = tiny(training__fix_statistics_after=2)
    moved = {"norm/moving_mean": np.array([0, 1e-30], np.float32), "conv/kernel": np.ones(2, np.float32)}
    assert fault_of_weights(moved, config, 2) == ""
    assert fault_of_weights(moved, config, 3) == (
        "array norm/moving_mean has changed, and training.fix_statistics_after 2 keeps it as it is"
    )
    assert fault_of_weights(moved | {"norm/moving_mean": np.zeros(2, np.float32)}, config, 3) == ""
