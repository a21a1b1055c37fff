"""What a training does to a pretrained encoder: at its own rate, and with its statistics as they came if frozen."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import pytest

from fedpolyp.algorithms.base import Trained
from fedpolyp.config import Config, load
from fedpolyp.model import efficientnet_lite, registry
from fedpolyp.model.arrays import Arrays, is_statistic
from fedpolyp.training import Trainer

SMALL = ((1, 3, 1, 1, 4), (1, 3, 2, 2, 4), (1, 5, 2, 2, 4), (2, 3, 2, 2, 4))
RATE = 0.1


@pytest.fixture(autouse=True, scope="module")
def _small_encoder() -> Iterator[None]:
    """One block a stage: to trace the whole network takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite, "_TO_STRIDE_16", SMALL)
        yield


def config(**overrides: Any) -> Config:
    settings = {
        "data.image_size": 32,
        "training.batch_size": 4,
        "model.encoder": "efficientnet-lite0",
        "model.encoder_weights": "random",
        "model.base_filters": 2,
    }
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


@lru_cache(maxsize=None)  # noqa: UP033  # tracing takes seconds
def trained(optimizer: str = "adam", rate: float = 1.0, frozen: bool = False) -> tuple[Arrays, Trained]:
    """First weights, and what one step makes of them."""
    overrides = {"training__optimizer": optimizer, "model__encoder_rate": rate, "model__frozen_statistics": frozen}
    trainer = Trainer(config(**overrides))
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (4, 32, 32, 3), np.uint8), rng.integers(0, 2, (4, 32, 32), np.uint8)
    after = trainer.train(trainer.initial, images, masks, hospital="hospital-1", round=1, learning_rate=0.01)
    return trainer.initial, after


def steps(before: Arrays, after: Trained) -> dict[str, Any]:
    return {name: after.arrays[name] - array for name, array in before.items() if not is_statistic(name)}


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_the_encoder_s_steps_are_shorter_by_its_rate_and_the_decoder_s_are_not(optimizer: str) -> None:
    full, slow = steps(*trained(optimizer)), steps(*trained(optimizer, RATE))
    assert {name.startswith(registry.ENCODER) for name in full} == {True, False}
    for name, step in full.items():
        share = RATE if name.startswith(registry.ENCODER) else 1.0
        assert np.abs(step).max() > 0
        assert np.allclose(slow[name], share * step, rtol=1e-3, atol=1e-7), name
    assert trained(optimizer)[1].loss == trained(optimizer, RATE)[1].loss


def test_an_encoder_with_rate_0_stays_as_it_was() -> None:
    for name, step in steps(*trained(rate=0.0)).items():
        assert np.any(step) != name.startswith(registry.ENCODER), name


@pytest.mark.slow
def test_frozen_statistics_stay_and_their_scales_learn() -> None:
    before, after = trained(frozen=True)
    for name, array in before.items():
        frozen = name.startswith(registry.ENCODER) and is_statistic(name)
        assert np.array_equal(after.arrays[name], array) == frozen, name
    moved, went = trained()
    assert not any(np.array_equal(went.arrays[name], moved[name]) for name in moved if is_statistic(name))


@pytest.mark.slow
def test_with_frozen_statistics_an_encoder_sees_the_same_in_training_and_in_use() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for frozen in (True, False):
        model = registry.build(config(model__frozen_statistics=frozen), for_training=True)
        encoder = keras.Model(model.input, model.get_layer("decoder4_up").input)
        alike = np.allclose(encoder(images, training=True), encoder(images, training=False), atol=1e-6)
        assert alike == frozen
