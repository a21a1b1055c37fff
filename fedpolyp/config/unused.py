"""What is set and changes nothing, so that nobody takes it for having had an effect."""

from collections.abc import Sequence

from fedpolyp.algorithms.finding import find
from fedpolyp.config.settings import Config, FederationConfig, TrainingConfig
from fedpolyp.data.partition.partition import Partition

_OF_A_FEDERATION = (
    *("fraction", "min_replies", "max_update_norm", "weights", "max_weight", "per_step"),
    *("drop_rate", "slow", "deadline", "liars", "lie"),
)
_OF_A_MEAN = ("weights", "max_weight", "per_step")


def unused(config: Config, partition: Partition) -> str:
    """A sentence about the settings of a simulation that differ from their defaults, and have no effect; '' for none.

    Imports the algorithm.
    """
    name, kind = config.algorithm.name, find(config.algorithm.name)
    federation, training = config.federation, config.training
    found = []
    if kind.federated:
        found += _in_a_federation(config, partition)
        if not kind.weighs:
            found.append((_given(federation, _OF_A_MEAN), f"{name} weighs no hospital"))
    else:
        of_it = [*_given(federation, _OF_A_FEDERATION), *_given(training, ("wire", "optimizer_state"))]
        found.append((of_it, f"{name} is no federation"))
    if training.local_steps is not None:
        found.append((_given(training, ("local_epochs",)), "--local-steps takes its place"))
    if training.optimizer != "adamw":
        found.append((_given(training, ("weight_decay",)), f"{training.optimizer} has none"))
    if not any(own.val for own in partition.hospitals.values()):
        found.append((_given(federation, ("patience",)), "no hospital has validation images"))
    said = [f"{', '.join(options)} ({why})" for options, why in found if options]
    return f"{config.label}: without effect are {'; '.join(said)}" if said else ""


def _in_a_federation(config: Config, partition: Partition) -> list[tuple[Sequence[str], str]]:
    federation, found = config.federation, list[tuple[Sequence[str], str]]()
    if federation.deadline is None:
        found.append((_given(federation, ("slow",)), "there is no --deadline"))
    else:
        steps = {name: config.training.steps(len(own.train)) for name, own in partition.hospitals.items()}
        longest = max(own * federation.slowness.get(name, 1.0) for name, own in steps.items())
        if longest <= federation.deadline * min(steps.values()):
            found.append((_given(federation, ("deadline", "slow")), "nobody takes that long"))
    if not federation.lying:
        found.append((_given(federation, ("lie",)), "there are no --liars"))
    if federation.weights == "equal":
        found.append((_given(federation, ("max_weight",)), "all weigh the same"))
    in_round = max(1, round(federation.fraction * len(partition.hospitals)))
    if config.algorithm.name == "trimmed-mean" and in_round * config.algorithm.own["trim"] < 1:
        found.append((["--trim"], f"it leaves out none of {in_round} hospitals, so this is the mean"))
    if config.algorithm.name == "cyclic":
        found.append((_given(federation, ("max_update_norm",)), "updates come one at a time"))
    return found


def _given(section: FederationConfig | TrainingConfig, names: Sequence[str]) -> list[str]:
    """The options among `names` that are not as by default."""
    fields: dict[str, object] = {name: field.default for name, field in type(section).model_fields.items()}
    return ["--" + name.replace("_", "-") for name in names if getattr(section, name) != fields[name]]
