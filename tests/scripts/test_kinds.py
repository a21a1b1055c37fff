"""What the benchmark says of traffic follows from the arrays that travel."""

from typing import Any

import numpy as np
import pytest

from fedpolyp.config import load
from fedpolyp.training import shared_trainer
from scripts.benchmarks.keras_steps import step_of
from scripts.benchmarks.kinds import _OPTIMIZERS, travels

CONFIG = load(overrides={"data.image_size": 32})


def test_without_the_optimizers_state_and_in_halves_a_sixth_travels() -> None:
    before, now = (travels(CONFIG, own) for own in _OPTIMIZERS.values())
    # Weights and two moments of four bytes, against weights of two: but statistics have no moments.
    assert 0.16 < now / before < 0.17


def test_one_buffer_of_muon_is_less_than_two_of_adam() -> None:
    averaged = {"training.optimizer_state": "average"}
    adam, muon = (travels(CONFIG, averaged | {"training.optimizer": name}) for name in ("adam", "muon"))
    none = travels(CONFIG, {"training.optimizer_state": "reset"})
    assert none < muon < adam


def test_a_private_step_is_measured_on_clipped_gradients_and_an_ordinary_one_on_the_loss() -> None:
    tiny: dict[str, Any] = {
        **{"data.image_size": 32, "model.base_filters": 2, "model.normalization": "group"},
        "training.optimizer": "adam",
    }
    images, masks = np.zeros((2, 32, 32, 3), np.uint8), np.ones((2, 32, 32), np.uint8)
    private = load(overrides=tiny | {"privacy.mode": "local", "privacy.clip": 0.25, "algorithm.name": "fedadam"})
    assert step_of(shared_trainer(private))(images, masks) == pytest.approx(
        0.5, rel=1e-3
    )  # two of the same, each cut to 0.25
    ordinary = shared_trainer(load(overrides=tiny))
    loss = ordinary.evaluate(ordinary.initial, images, masks).losses.mean()
    assert step_of(ordinary)(images, masks) == pytest.approx(float(loss), rel=1e-4)
