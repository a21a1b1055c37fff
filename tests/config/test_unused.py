"""What is set and has no effect is said, and nothing else is."""

from typing import Any

import pytest

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.config import load
from fedpolyp.config.unused import unused
from fedpolyp.data.partition.partition import HospitalImages, Partition


def partition_of(*sizes: int, val: bool = True) -> Partition:
    def own(hospital: int, size: int) -> HospitalImages:
        train = tuple(f"{hospital}-{image}" for image in range(size))
        return HospitalImages(train, (f"{hospital}-val",) if val else (), ())

    return Partition((), {f"hospital-{number}": own(number, size) for number, size in enumerate(sizes, 1)})


def said(partition: Partition | None = None, **settings: Any) -> str:
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    return unused(load(overrides=overrides), partition or partition_of(*[80] * 5))


SECURE = {"privacy__secure_sums": True, "training__optimizer_state": "keep"}


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_nothing_is_said_of_defaults(algorithm: str) -> None:
    assert said(algorithm__name=algorithm) == ""


@pytest.mark.parametrize("algorithm", ["median", "trimmed-mean", "krum", "multi-krum", "cyclic"])
def test_an_algorithm_that_weighs_nobody_says_so(algorithm: str) -> None:
    given: dict[str, Any] = {
        "federation__weights": "equal",
        "federation__max_weight": 0.4,
        "federation__per_step": True,
    }
    expected = f"--weights, --max-weight, --per-step ({algorithm} does not weight hospitals)"
    assert expected in said(algorithm__name=algorithm, **given)


def test_with_privacy_there_is_no_local_training_and_without_there_is_no_promise() -> None:
    given: dict[str, Any] = {"training__local_epochs": 3, "training__augment": False, "federation__patience": 3}
    drawn = said(privacy__batches="poisson", privacy__batch=8)
    assert drawn.endswith("--batches, --batch (there is no --privacy)")
    of_all = said(privacy__mode="local", privacy__batch=8, algorithm__name="fedadam", model__normalization="group")
    assert of_all.endswith("effect: --batch (without --batches poisson a step has all units)")
    assert said(privacy__epsilon=2.0, privacy__clip=0.5).endswith("--epsilon, --clip (there is no --privacy)")
    assert said(privacy__score_epsilon=2.0).endswith("--score-epsilon (there is no --privacy)")
    private = said(
        privacy__mode="local", privacy__epsilon=2.0, algorithm__name="fedadam", model__normalization="group", **given
    )
    assert private.endswith("effect: --local-epochs, --augment, --patience (with --privacy there is none)")


@pytest.mark.parametrize("algorithm", ["pooled", "local"])
def test_without_a_federation_its_settings_are_named(algorithm: str) -> None:
    given: dict[str, Any] = {
        "training__wire": "bfloat16",
        "training__optimizer_state": "keep",
        "federation__liars": "hospital-1",
    }
    expected = f"{algorithm}: options without effect: --liars, --wire, --optimizer-state ({algorithm} is not federated)"
    assert said(algorithm__name=algorithm, **given) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"federation__lie": "noise"}, "--lie (there are no --liars)"),
        ({"federation__slow": "hospital-1=9"}, "--slow (there is no --deadline)"),
        ({"federation__deadline": 2.0}, "--deadline (no hospital takes that long)"),
        (
            {"federation__deadline": 9.0, "federation__slow": "hospital-1=9"},
            "--deadline, --slow (no hospital takes that",
        ),
        ({"federation__weights": "equal", "federation__max_weight": 0.3}, "--max-weight (all have the same weight)"),
        ({"training__local_steps": 5, "training__local_epochs": 3}, "--local-epochs (--local-steps takes its place)"),
        ({"training__weight_decay": 0.1}, "--weight-decay (muon has none)"),
        ({"training__fix_statistics_after": 40}, "--fix-statistics-after (there are 40 rounds)"),
        (
            {"training__fix_statistics_after": 1, "model__normalization": "group"},
            "--fix-statistics-after (no batch normalization learns statistics)",
        ),
        ({"algorithm__name": "trimmed-mean", "algorithm__trim": 0.0}, "--trim (it leaves out none of 5 hospitals"),
        ({"algorithm__name": "trimmed-mean", "federation__fraction": 0.4}, "--trim (it leaves out none of 2 hospitals"),
        ({"federation__max_weight": 0.1}, "--max-weight (5 hospitals cannot all have less, so all have the same"),
        ({"federation__per_step": True}, "--per-step (all hospitals take the same number of steps)"),
        ({"federation__fraction": 0.4, "federation__max_update_norm": 3.0}, "--max-update-norm (no update stands out"),
        (
            {"model__encoder_weights": "random", "model__encoder_rate": 0.1, "model__frozen_statistics": True},
            "effect: --encoder-weights, --encoder-rate, --frozen-statistics (the encoder is plain)",
        ),
        (
            {"model__encoder": "mobilenet-v2", "model__encoder_weights": "random", "model__initial_weights": "a.keras"},
            "--encoder-weights (--initial-weights are those of the whole model)",
        ),
        ({"algorithm__name": "cyclic", "federation__max_update_norm": 3.0}, "--max-update-norm (updates come one at"),
        ({"privacy__secure_least": 4, "privacy__colluders": 2}, "--secure-least, --colluders (there are no --secure-s"),
        (SECURE | {"federation__max_update_norm": 3.0}, "--max-update-norm (with --secure-sums nobody sees single"),
    ],
)
def test_a_setting_without_what_it_needs_is_named(settings: dict[str, Any], expected: str) -> None:
    assert expected in said(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"federation__lie": "noise", "federation__liars": "hospital-1"},
        {"federation__deadline": 2.0, "federation__slow": "hospital-1=9"},
        {"federation__patience": 3},
        {"federation__max_weight": 0.2, "algorithm__name": "fedadam"},
        {"model__encoder": "mobilenet-v2", "model__encoder_weights": "random", "model__encoder_rate": 0.1},
        {"algorithm__name": "trimmed-mean", "algorithm__trim": 0.1},
        {"training__weight_decay": 0.1, "training__optimizer": "adamw"},
        {"training__fix_statistics_after": 2},
        {"training__wire": "bfloat16", "training__optimizer_state": "keep"},
        SECURE | {"privacy__secure_least": 4, "privacy__colluders": 2},
    ],
)
def test_a_setting_that_has_an_effect_is_not(settings: dict[str, Any]) -> None:
    assert said(**settings) == ""


def test_a_deadline_that_a_large_hospital_misses_has_an_effect() -> None:
    assert said(partition_of(80, 80, 800), federation__deadline=2.0) == ""


def test_a_mean_for_each_step_has_an_effect_where_hospitals_take_different_numbers_of_them() -> None:
    unlike = partition_of(80, 80, 800)
    assert said(unlike, federation__per_step=True) == ""
    assert "--per-step (all" in said(unlike, federation__per_step=True, training__local_steps=5)


def test_patience_needs_validation_images() -> None:
    assert "--patience (no hospital has validation images)" in said(
        partition_of(80, 80, val=False), federation__patience=3
    )
