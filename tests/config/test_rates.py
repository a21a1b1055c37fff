"""The learning rate that is not set."""

import pytest

from fedpolyp.config import load, rate_of, rated
from fedpolyp.training import learning_rate


@pytest.mark.parametrize(
    ("optimizer", "algorithm", "rate"),
    [
        ("muon", "fedavg", 0.03),
        ("muon", "scaffold", 0.03),
        ("muon", "pooled", 0.01),
        ("muon", "local", 0.01),
        ("adam", "fedavg", 0.003),
        ("adam", "cyclic", 0.001),
    ],
)
def test_it_is_what_suits_the_optimizer_and_the_arm_and_is_written_out(
    optimizer: str, algorithm: str, rate: float
) -> None:
    config = load(overrides={"training.optimizer": optimizer, "algorithm.name": algorithm})
    assert config.training.learning_rate is None and rate_of(config) == rate
    assert rated(config).training.learning_rate == rate and rate_of(rated(config)) == rate
    assert learning_rate(config, 1) == learning_rate(rated(config), 1) == rate


@pytest.mark.parametrize(("algorithm", "muon"), [("fedavg", 0.03), ("pooled", 0.01), ("local", 0.01)])
def test_an_encoder_that_was_trained_before_changes_the_rate_of_adam_alone(algorithm: str, muon: float) -> None:
    assert rate_of(load(None, "pretrained", {"algorithm.name": algorithm})) == muon
    assert rate_of(load(None, "pretrained", {"algorithm.name": algorithm, "training.optimizer": "adam"})) == 0.003


def test_one_that_is_set_wins() -> None:
    config = load(overrides={"training.learning_rate": 0.2, "algorithm.name": "pooled"})
    assert rate_of(config) == 0.2 and rated(config) == config
