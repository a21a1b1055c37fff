"""Algorithms by name: the built-in ones, those that packages offer, and `module:Class`."""

import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from fedpolyp.aggregation.aggregate import Aggregate
from fedpolyp.aggregation.capped import Capped
from fedpolyp.aggregation.mean import WeightedMean
from fedpolyp.aggregation.per_step import PerStep
from fedpolyp.algorithms.base import Algorithm
from fedpolyp.own_code import PLACE, imported
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.config import Config, FederationConfig

GROUP = "fedpolyp.algorithms"
# In the order in which they are listed and reported.
BUILT_IN = {
    "pooled": "pooled:Pooled",
    "local": "local:Local",
    "fedavg": "fedavg:FedAvg",
    "fedprox": "fedprox:FedProx",
    "fedavgm": "server_optimizers:FedAvgM",
    "fedadagrad": "server_optimizers:FedAdagrad",
    "fedadam": "server_optimizers:FedAdam",
    "fedyogi": "server_optimizers:FedYogi",
    "scaffold": "scaffold:Scaffold",
    "fedbn": "fedbn:FedBN",
    "finetune": "finetune:FineTune",
    "median": "robust:Median",
    "trimmed-mean": "robust:TrimmedMean",
    "krum": "robust:Krum",
    "multi-krum": "robust:MultiKrum",
    "cyclic": "cyclic:Cyclic",
}
# Algorithms in which hospitals train, each on its own images.
FEDERATED = tuple(name for name in BUILT_IN if name not in ("pooled", "local"))
# Possible names: a name, or a class in a module.
NAME = re.compile(rf"(?=.{{1,100}}$)([a-z0-9][a-z0-9._-]*|{PLACE})", re.ASCII)
NAME_LIKE = f"one of {', '.join(BUILT_IN)}, one that a package offers as {GROUP}, or module:Class"


def find(name: str) -> type[Algorithm]:
    """The algorithm called `name`; one that is not built in is somebody's code, which is imported.

    Raises:
        ValueError: there is none, or it is not an algorithm.
    """
    if name in BUILT_IN:
        return _imported(f"fedpolyp.algorithms.{BUILT_IN[name]}", name)
    if ":" in name:
        return _imported(name, name)
    for offered in entry_points(group=GROUP, name=name):
        return _imported(offered.value, name)
    raise ValueError(f"algorithm must be {NAME_LIKE}; got '{name}'")


def known() -> list[str]:
    """The names of all algorithms that have one: the built-in ones, then those that packages offer."""
    return [*BUILT_IN, *sorted(offered.name for offered in entry_points(group=GROUP) if offered.name not in BUILT_IN)]


def make(config: "Config", hospitals: Sequence[str] = ()) -> Algorithm:
    """The algorithm of `config`; `hospitals` are all of the run's, where they are known."""
    kind = find(config.algorithm.name)
    averages = not kind.federated or (config.training.optimizer_state == "average" and not config.privacy.on)
    return kind(config.algorithm.settings, averages, hospitals, lambda: _mean(config.federation))


def _mean(settings: "FederationConfig") -> Aggregate:
    """A mean that weights updates as `settings` say."""

    def weighted() -> Aggregate:
        return PerStep(WeightedMean) if settings.per_step else WeightedMean()

    return weighted() if settings.max_weight is None else Capped(settings.max_weight, weighted)


def settings_of(name: str) -> type[Section]:
    """The settings of the algorithm called `name`.

    Raises:
        ValueError: there is no such algorithm.
    """
    return find(name).Settings


def _imported(place: str, name: str) -> type[Algorithm]:
    kind = imported(place, Algorithm, f"the algorithm {name}")
    if kind.fine_tunes and (kind.corrections or not {"own_epochs", "own_rate"} <= set(kind.Settings.model_fields)):
        raise ValueError(
            f"the algorithm {name} fine-tunes, so it needs the settings own_epochs and own_rate, and no corrections: "
            "there are none after the last round"
        )
    return kind
