"""A config is what its settings are, checked, or one clear sentence."""

import math
from typing import Any

import pytest

from fedpolyp.config import Config, load
from fedpolyp.errors import UsageError


def test_nothing_given_gives_the_defaults() -> None:
    assert load() == load(overrides={}) == Config()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"data.nope": 1}, "data.nope is not a setting ('fedpolyp config' lists them)"),
        ({"nope.x": 1}, "nope is not a setting ('fedpolyp config' lists them)"),
        ({"training.batch_size": 0}, "training.batch_size must be greater than or equal to 1; got 0"),
        ({"data.image_size": 100}, "data.image_size must be a multiple of 16; got 100"),
        ({"data.held_out": 0.9}, "data.held_out must be less than 0.9; got 0.9"),
        ({"training.learning_rate": math.nan}, "training.learning_rate must be a finite number; got nan"),
        ({"seed": "1"}, "seed must be a valid integer; got '1'"),
        ({"seed": True}, "seed must be a valid integer; got True"),
        ({"training.augment": 1}, "training.augment must be a valid boolean; got 1"),
        ({"training.loss": "dice"}, "training.loss must be 'bce' or 'bce+dice'; got 'dice'"),
        ({"model.dropout": (0.1, 1.0)}, "model.dropout rates must be in [0, 1); got [0.1, 1.0]"),
        ({"model.dropout": (0.1,)}, "model.dropout.1 Field required; got (0.1,)"),
        (
            {"hospitals.val": 0.45, "hospitals.test": 0.45},
            "hospitals.val and hospitals.test together leave less than a tenth for training",
        ),
        (
            {"data.nope": 1, "seed": -1},
            "seed must be greater than or equal to 0; got -1; "
            "data.nope is not a setting ('fedpolyp config' lists them)",
        ),
        (
            {"arm_label": "A b"},
            "arm_label must be like fedavg-muon: lower-case letters, digits, dots and hyphens, 40 at most; got 'A b'",
        ),
        ({"federation.slow": "a=3,b"}, "federation.slow must be HOSPITAL=FACTOR, or several with commas; got 'a=3,b'"),
        (
            {"runtime.observers": "a..b:C"},
            "runtime.observers must be module:Class, or several with commas; got 'a..b:C'",
        ),
        ({"model.initial_sha256": "0A"}, "model.initial_sha256 must be 64 hexadecimal digits; got '0A'"),
        (
            {"arm_label": "pooled"},
            "arm_label 'pooled' is the name of another algorithm than the arm's, fedavg; choose another label",
        ),
        ({"algorithm.mu": 0.1}, "algorithm.mu is not a setting ('fedpolyp config' lists them)"),
        (
            {"algorithm.name": "fedprox", "algorithm.mu": -1.0},
            "algorithm.mu must be greater than or equal to 0; got -1.0",
        ),
        (
            {"algorithm.name": "nope"},
            "algorithm must be one of pooled, local, fedavg, fedprox, fedavgm, fedadagrad, fedadam, fedyogi, scaffold, "
            "fedbn, finetune, median, trimmed-mean, krum, multi-krum, cyclic, one that a package offers as "
            "fedpolyp.algorithms, or module:Class; got 'nope'",
        ),
        (
            {"arm": "pooled"},
            "arm is not a setting ('fedpolyp config' lists them; one of the algorithm's own is algorithm.arm)",
        ),
        (
            {"batch_size": 4},
            "batch_size is not a setting ('fedpolyp config' lists them; did you mean training.batch_size?)",
        ),
        (
            {"training.local_epoch": 4},
            "training.local_epoch is not a setting ('fedpolyp config' lists them; did you mean training.local_epochs?)",
        ),
        # Lengths far below the clip cannot be measured in float32.
        ({"privacy.clip": 1e-7}, "privacy.clip must be greater than or equal to 0.000001; got 1e-07"),
        ({"data": 3}, "data must be a valid dictionary or instance of DataConfig; got 3"),
        ({"seed": 3, "seed.x": 1}, "'seed.x' is not a setting: 'seed' is a value, not a table"),
    ],
)
def test_a_refusal_says_what_was_received_and_what_is_allowed(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        load(overrides=overrides)
    assert str(refusal.value) == sentence


def test_a_config_is_never_changed() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.training.batch_size = 1  # type: ignore[misc]


def test_an_arm_is_called_as_its_algorithm_or_as_it_was_labelled() -> None:
    assert Config().label == "fedavg" and Config().federated
    assert load(overrides={"algorithm.name": "fedprox", "arm_label": "near"}).label == "near"
    assert load(overrides={"algorithm.name": "fedprox", "arm_label": "fedprox"}).label == "fedprox"
    assert load(overrides={"algorithm.name": "fedpolyp.algorithms.scaffold:Scaffold"}).label == "scaffold"


def test_pooled_and_local_are_no_federations_whatever_they_are_called() -> None:
    for name, federated in (("pooled", False), ("local", False), ("cyclic", True), ("fedavg", True)):
        assert load(overrides={"algorithm.name": name, "arm_label": "near"}).federated == federated


def test_a_class_of_somebodys_is_not_called_as_a_built_in_algorithm_is() -> None:
    with pytest.raises(UsageError, match="'fedavg' is the name of another algorithm than the arm's, tests.x:FedAvg"):
        load(overrides={"algorithm.name": "tests.x:FedAvg"})
