"""What is compiled once, and by which settings it is known."""

from typing import Any

import pytest

from fedpolyp.config import TrainingConfig
from fedpolyp.network import Network, compiled, shared_network
from fedpolyp.training import Trainer, shared_trainer
from tests.tiny import tiny_config

COMPILED: dict[str, Any] = {
    "optimizer": "adamw",
    "weight_decay": 0.5,
    "loss": "bce",
    "precision": "mixed_bfloat16",
    "threads": 2,
}
NOT_COMPILED: dict[str, Any] = {
    "local_epochs": 7,
    "local_steps": 5,
    "batch_size": 3,
    "learning_rate": 0.5,
    "schedule": "constant",
    "fix_statistics_after": 1,
    "warmup_rounds": 1,
    "optimizer_state": "keep",
    "augment": False,
    "wire": "bfloat16",
}


def test_every_setting_of_training_is_known_to_be_compiled_or_not() -> None:
    assert COMPILED.keys() | NOT_COMPILED.keys() == TrainingConfig.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), [*COMPILED.items(), *NOT_COMPILED.items()])
def test_trainings_share_a_network_unless_they_differ_in_what_is_compiled(name: str, value: Any) -> None:
    one, other = tiny_config(), tiny_config(**{f"training__{name}": value})
    assert getattr(one.training, name) != value
    assert (compiled(one) == compiled(other)) == (name in NOT_COMPILED)


@pytest.mark.parametrize(
    ("setting", "value", "shared"),
    [
        ("seed", 1, False),
        ("data__image_size", 64, False),
        ("model__base_filters", 2, False),
        ("algorithm__name", "fedprox", False),  # corrects gradients
        *[("algorithm__name", name, True) for name in ("pooled", "local", "cyclic", "fedadam", "krum", "fedbn")],
        ("hospitals__count", 9, True),
        ("runtime__actors", 7, True),
        ("federation__rounds", 9, True),
    ],
)
def test_other_settings_are_compiled_where_steps_depend_on_them(setting: str, value: Any, shared: bool) -> None:
    assert (compiled(tiny_config()) == compiled(tiny_config(**{setting: value}))) == shared


def test_what_an_algorithm_traces_into_the_step_is_compiled() -> None:
    near, far = (tiny_config(algorithm__name="fedprox", algorithm__mu=mu) for mu in (0.1, 0.2))
    assert compiled(near) != compiled(far)


def test_a_trainer_of_its_own_builds_a_network_and_a_shared_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(Network, "__init__", lambda self, config: built.append(config))
    config = tiny_config(seed=1234)
    assert shared_trainer(config).network is shared_trainer(tiny_config(seed=1234, training__batch_size=2)).network
    assert shared_network(config) is shared_trainer(config).network and len(built) == 1
    assert Trainer(config).network is not Trainer(config).network and len(built) == 3
