"""A comparison before it is carried out."""

from types import SimpleNamespace
from typing import Any

import pytest

from fedpolyp.cli.compare import wanted_arms
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError
from fedpolyp.experiment.prepared import _unused, refuse_left_out
from tests.tiny import tiny_config


def test_what_has_no_effect_in_a_federated_arm_is_said_once_and_what_pooled_training_makes_of_local_steps() -> None:
    def job(algorithm: str, seed: int, label: str | None = None) -> Any:
        given = {"federation__max_weight": 0.4, "training__local_steps": 5, "arm_label": label}
        given["training__local_epochs"] = 2
        config = tiny_config(algorithm__name=algorithm, seed=seed, **given)
        own = HospitalImages(("a",), ("b",), ())
        partition = Partition((), {"hospital-1": own, "hospital-2": own, "hospital-3": own})
        return SimpleNamespace(config=config, run=SimpleNamespace(partition=lambda: partition))

    arms = (("pooled", None), ("local", None), ("fedavg", None), ("median", "robust"))
    jobs = [job(algorithm, seed, label) for seed in (0, 1) for algorithm, label in arms]
    epochs = "--local-epochs (--local-steps takes its place)"
    assert list(_unused(jobs)) == [
        "pooled takes 5 steps a round (--local-steps), the hospitals together 15",
        f"fedavg: options without effect: {epochs}",
        f"robust: options without effect: --max-weight (median does not weight hospitals); {epochs}",
    ]


def test_an_algorithm_of_the_settings_that_no_arm_is_of_is_refused() -> None:
    base = tiny_config(algorithm__name="fedprox", algorithm__mu=0.5)
    with pytest.raises(UsageError, match="the settings choose the algorithm fedprox, but no arm has it"):
        refuse_left_out(base, wanted_arms(None, ()))
    refuse_left_out(base, wanted_arms("pooled,fedprox", ()))
    refuse_left_out(base, wanted_arms(None, ("far: training.learning_rate=0.01",)))
    refuse_left_out(tiny_config(), wanted_arms("pooled,local", ()))
