"""Whether runs can be compared: one partition, the same images; what is missing or differs is told."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from fedpolyp.config import Config
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.findings import LOCAL, POOLED, Arm
from fedpolyp.runs import RunFolder

_NONE = "not there"  # the value of a setting that a run does not have


def refuse_another_algorithm(label: str, runs: Sequence[tuple[RunFolder, Config]]) -> None:
    """Refuse different arms with the same label: their mean would belong to no algorithm.

    Raises:
        UsageError: there are two.
    """
    for (one, before), (other, after) in pairwise(runs):
        if (before.algorithm, before.privacy) != (after.algorithm, after.privacy):
            raise UsageError(
                f"{one.path} and {other.path} are both called '{label}', but are {_described(before)} and "
                f"{_described(after)}; give each its own label (--arm-label)"
            )


def _described(config: Config) -> str:
    """'fedprox with mu 0.1'."""
    algorithm, privacy = config.algorithm, config.privacy
    own = ", ".join(f"{name} {value}" for name, value in algorithm.own.items())
    promised = f", privacy {privacy.mode} with epsilon {privacy.epsilon:g}" if privacy.on else ""
    summed = ", secure sums" if privacy.secure_sums else ""
    return (f"{algorithm.name} with {own}" if own else algorithm.name) + promised + summed


def common_partition(runs: Sequence[RunFolder]) -> Partition:
    """The partition that all runs have.

    Raises:
        UsageError: two runs have different ones.
    """
    partition = runs[0].partition()
    for run in runs[1:]:
        if run.partition() != partition:
            raise UsageError(f"{run.path} was made with another partition of the images than {runs[0].path}")
    return partition


def common_images(runs: Sequence[RunFolder]) -> tuple[Digest | None, list[str]]:
    """The digest that identifies the images of all runs, and a sentence if some runs have none.

    Raises:
        UsageError: two runs have different images or masks.
    """
    known = [(run, digest) for run in runs if (digest := run.digest()) is not None]
    for run, digest in known[1:]:
        if change := known[0][1].change(digest):
            raise UsageError(f"{run.path} has other images than {known[0][0].path}: {change}")
    said = []
    if len(known) < len(runs):
        said.append(
            f"Runs without digest.json, which identifies a run's images: {len(runs) - len(known)} of {len(runs)} runs. "
            "It is not known whether the images are the same in all runs."
        )
    return (known[0][1] if known else None), said


def store_of(run: RunFolder, partition: Partition, digest: Digest | None) -> tuple[Store | None, list[str]]:
    """The store of the run's images, None if they are gone or have changed; a sentence if they have."""
    try:
        path = run.environment().get("store")
        store = Store.open(Path(path)) if isinstance(path, str) else None
        change = "" if store is None or digest is None else digest.change(Digest.of(partition, store))
        if store is not None and digest is None:
            Digest.of(partition, store)  # the store has all of them
    except FedpolypError:
        return None, []
    if change:
        return None, [f"The images have changed since the training, so none of them is shown: {change}."]
    return store, []


def missing(arms: Sequence[Arm], given: Sequence[tuple[RunFolder, Config]]) -> Iterable[str]:
    """A sentence for each thing that is missing from a whole comparison."""
    if len(given) > 1:
        for algorithm in (POOLED, LOCAL):
            if algorithm not in [arm.algorithm.name for arm in arms]:
                yield f"There is no finished {algorithm} run."
        if not any(arm.federated for arm in arms):
            yield "There is no finished federated run."
    for run, config in given:
        if not run.images_file.exists():
            done = max(0, len(run.rounds()) - 1)
            name, rounds = f"{config.label}, seed {config.seed}", config.federation.rounds
            yield f"One run is left out because it is not finished: {name}, after {done} of {rounds} rounds."
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    for arm in arms:
        if absent := [str(seed) for seed in seeds if seed not in arm.seeds]:
            yield f"The {arm.label} arm has no finished run with seed {', '.join(absent)}, which other arms have."


def unequal(finished: Sequence[tuple[RunFolder, Config]]) -> Iterable[str]:
    """The settings other than algorithm, rounds and seed that differ between runs, each with its values."""
    all_settings = [_settings(config) for _, config in finished]
    # A scheme has settings that others lack.
    for name in dict.fromkeys(name for settings in all_settings for name in settings):
        if any(before.get(name, _NONE) != after.get(name, _NONE) for before, after in pairwise(all_settings)):
            told: dict[str, str] = {}
            for (_, config), settings in zip(finished, all_settings, strict=True):
                told.setdefault(str(settings.get(name, _NONE)), f"{config.label}/{config.seed}")
            yield f"{name} is " + ", but ".join(f"{value} in {where}" for value, where in told.items())


def _settings(config: Config) -> dict[str, object]:
    """The settings that all runs of a comparison should share, by dotted name."""
    plain = config.model_dump(
        exclude={"runtime": True, "seed": True, "arm_label": True, "algorithm": True, "data": {"seed"}}
    )
    flat = {f"{section}.{name}": value for section, values in plain.items() for name, value in values.items()}
    return {name: v for name, v in flat.items() if name != "federation.rounds"}
