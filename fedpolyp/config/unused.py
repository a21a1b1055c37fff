"""Finds settings that are set and change nothing, so that nobody thinks that they had an effect."""

from collections.abc import Sequence

from fedpolyp.algorithms.finding import find
from fedpolyp.config.config import Config
from fedpolyp.data.partition.finding import find as find_scheme
from fedpolyp.data.partition.partition import Partition
from fedpolyp.section import Section

_OF_A_FEDERATION = (
    *("fraction", "min_replies", "max_update_norm", "weights", "max_weight", "per_step"),
    *("drop_rate", "slow", "deadline", "liars", "lie"),
)
# A private round has one gradient of each unchanged image.
_OF_A_TRAINING = ("local_epochs", "local_steps", "optimizer", "optimizer_state", "weight_decay", "augment")
_OF_A_GUARANTEE = ("epsilon", "delta", "score_epsilon", "clip", "unit", "batches", "batch")
_OPTIONS = {"count": "hospitals", "val": "val-fraction", "test": "test-fraction"}
_OF_A_MEAN = ("weights", "max_weight", "per_step")
_OF_AN_ENCODER = ("encoder_weights", "encoder_rate", "frozen_statistics")
_FEW = 3  # updates: of fewer, none stands out, and a trimmed mean leaves out none


def unused(config: Config, partition: Partition) -> str:
    """A sentence about the settings of a simulation that differ from their defaults and have no effect; '' for none.

    Imports the algorithm.
    """
    name, kind = config.algorithm.name, find(config.algorithm.name)
    federation, training = config.federation, config.training
    found = [*_in_the_partition(config, partition)]
    if kind.federated:
        found += _in_a_federation(config, partition)
        if not kind.weighs:
            of_it = _given(federation, _OF_A_MEAN)
            found = [(own, why) for own, why in found if not {*own} & {*of_it}]  # told once
            found.append((of_it, f"{name} does not weight hospitals"))
    else:
        of_it = [*_given(federation, _OF_A_FEDERATION), *_given(training, ("wire", "optimizer_state"))]
        found.append((of_it, f"{name} is not federated"))
    if config.model.encoder == "plain":
        found.append((_given(config.model, _OF_AN_ENCODER), "the encoder is plain"))
    elif config.model.initial_weights is not None:
        found.append((_given(config.model, ("encoder_weights",)), "--initial-weights are those of the whole model"))
    if config.privacy.on and config.privacy.drawn is None:
        found.append((_given(config.privacy, ("batch",)), "without --batches poisson a step has all units"))
    if config.privacy.on:
        of_it = [*_given(training, _OF_A_TRAINING), *_given(config.model, ("dropout",))]
        found.append(([*of_it, *_given(federation, ("patience",))], "with --privacy there is none"))
    else:
        found.append((_given(config.privacy, _OF_A_GUARANTEE), "there is no --privacy"))
    if config.privacy.secure_sums:
        found.append((_given(federation, ("max_update_norm",)), "with --secure-sums nobody sees single updates"))
    else:
        found.append((_given(config.privacy, ("secure_least", "colluders")), "there are no --secure-sums"))
    if training.local_steps is not None and not config.privacy.on:
        found.append((_given(training, ("local_epochs",)), "--local-steps takes its place"))
    if training.optimizer != "adamw" and not config.privacy.on:
        found.append((_given(training, ("weight_decay",)), f"{training.optimizer} has none"))
    if fixed := _given(training, ("fix_statistics_after",)):
        if not config.model.learns_statistics:
            found.append((fixed, "no batch normalization learns statistics"))
        elif not training.fixes_statistics(federation.rounds):
            found.append((fixed, f"there are {federation.rounds} rounds"))
    if not config.privacy.on and not any(own.val for own in partition.hospitals.values()):
        found.append((_given(federation, ("patience",)), "no hospital has validation images"))
    said = [f"{', '.join(options)} ({why})" for options, why in found if options]
    return f"{config.label}: options without effect: {'; '.join(said)}" if said else ""


def unused_in_partition(config: Config, partition: Partition) -> list[str]:
    """A sentence for each setting of the partition that is given and has no effect, where nothing is trained."""
    found = _in_the_partition(config, partition)
    return [f"options without effect: {', '.join(options)} ({why})" for options, why in found if options]


def _in_the_partition(config: Config, partition: Partition) -> list[tuple[Sequence[str], str]]:
    wanted = config.hospitals
    if wanted.partition is not None:
        of_a_scheme = _given(wanted, ("scheme", "skew", "min_images", "val", "test"))
        return [([*of_a_scheme, *_given(config.data, ("held_out", "lists"))], "--partition fixes them")]
    scheme, found = find_scheme(wanted.scheme), list[tuple[Sequence[str], str]]()
    if scheme.sets_count and wanted.count != len(partition.hospitals):
        found.append((_given(wanted, ("count",)), f"{wanted.scheme} makes {len(partition.hospitals)} hospitals"))
    if not scheme.uses_skew:
        found.append((_given(wanted, ("skew",)), f"{wanted.scheme} has none"))
    elif wanted.own.get("alpha") is not None:
        found.append((_given(wanted, ("skew",)), "--alpha takes its place"))
    return found


def _in_a_federation(config: Config, partition: Partition) -> list[tuple[Sequence[str], str]]:
    federation, found = config.federation, list[tuple[Sequence[str], str]]()
    if federation.deadline is None:
        found.append((_given(federation, ("slow",)), "there is no --deadline"))
    else:
        steps = _steps(config, partition)
        longest = max(own * federation.slowness.get(name, 1.0) for name, own in steps.items())
        if longest <= federation.deadline * min(steps.values()):
            found.append((_given(federation, ("deadline", "slow")), "no hospital takes that long"))
    if not federation.lying:
        found.append((_given(federation, ("lie",)), "there are no --liars"))
    in_round = federation.in_a_round(len(partition.hospitals))
    if federation.weights == "equal":
        found.append((_given(federation, ("max_weight",)), "all have the same weight"))
    elif federation.max_weight is not None and federation.max_weight * in_round < 1:
        found.append((["--max-weight"], f"{in_round} hospitals cannot all have less, so all have the same weight"))
    if federation.per_step and (config.privacy.on or len(set(_steps(config, partition).values())) == 1):
        found.append((["--per-step"], "all hospitals take the same number of steps"))
    if in_round < _FEW:
        found.append((_given(federation, ("max_update_norm",)), f"no update stands out among {in_round}"))
    if config.algorithm.name == "trimmed-mean" and (in_round < _FEW or not config.algorithm.own["trim"]):
        found.append((["--trim"], f"it leaves out none of {in_round} hospitals, so this is the mean"))
    if config.algorithm.name == "cyclic":
        found.append((_given(federation, ("max_update_norm",)), "updates come one at a time"))
    return found


def _steps(config: Config, partition: Partition) -> dict[str, int]:
    return {name: config.training.steps(len(own.train)) for name, own in partition.hospitals.items()}


def _given(section: Section, names: Sequence[str]) -> list[str]:
    """The options among `names` that differ from their defaults."""
    fields: dict[str, object] = {name: field.default for name, field in type(section).model_fields.items()}
    return [
        "--" + _OPTIONS.get(name, name.replace("_", "-")) for name in names if getattr(section, name) != fields[name]
    ]
