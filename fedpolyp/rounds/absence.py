"""Which hospitals are absent from a round of a simulation, by simulated time and drawn from the seed."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedpolyp.algorithms.finding import make
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import ImageRecord
from fedpolyp.errors import UsageError
from fedpolyp.privacy.accounting import refuse_without_library
from fedpolyp.privacy.units import fault_of_patients, units_of
from fedpolyp.rounds.sampling import needed, sample

_DROPPING = 97  # its own stream of random numbers


def absent(config: Config, partition: Partition, hospitals: Sequence[str], number: int) -> dict[str, str]:
    """Those of the round's `hospitals` whose reply does not come or comes too late, and why.

    The time of a training is its number of steps, times the hospital's factor in `federation.slow`. The deadline is
    `federation.deadline` times the round's median without slowness. A hospital that would be too late is not asked,
    because its reply would never be used.
    """
    settings, missing = config.federation, dict[str, str]()
    draws = np.random.default_rng([config.seed, _DROPPING, number]).random(len(hospitals))
    for name, draw in zip(hospitals, draws, strict=True):
        if draw < settings.drop_rate:
            missing[name] = "it dropped out (simulated)"
    if settings.deadline is not None:
        slow = settings.slowness
        steps = {name: config.training.steps(len(partition.hospitals[name].train)) for name in hospitals}
        median = float(np.median(list(steps.values())))
        for name, taken in steps.items():
            time = taken * slow.get(name, 1.0) / median
            if time > settings.deadline:
                late = f"it takes {time:.3g} times the median, over the deadline of {settings.deadline:g} (simulated)"
                missing.setdefault(name, late)
    return missing


def refuse_impossible(
    config: Config, partition: Partition, done: int = 0, records: Mapping[str, ImageRecord] | None = None
) -> None:
    """Refuse hospitals that are not in the partition, and rounds after `done` that would have too few hospitals.

    Absences are drawn from the seed, so such a round would fail again whenever the run is resumed. In a simulation
    `records` has all images by their ids. Then hospitals are refused that do not have the units that the run protects.

    Raises:
        UsageError: there is such a hospital or round.
    """
    settings, everyone = config.federation, sorted(partition.hospitals)
    for option, named in (("slow", settings.slowness), ("liars", settings.lying)):
        if strange := sorted({*named} - {*everyone}):
            allowed = ", ".join(everyone[:5]) + (", …" if len(everyone) > 5 else "")
            raise UsageError(f"federation.{option} names {', '.join(strange)}; the hospitals are {allowed}")
    algorithm = make(config, everyone)
    if not algorithm.federated:
        return
    if config.privacy.on:
        _refuse_delta(config, partition)
        if records is not None:
            _refuse_units(config, partition, records)
    if (most := len(sample(everyone, config, 1))) < algorithm.least:
        raise UsageError(
            f"the algorithm {config.algorithm.name} with these settings needs {algorithm.least} hospitals in a round; "
            f"there are {most} (--hospitals, --fraction)"
        )
    if config.privacy.secure_sums and most < config.privacy.secure_least:
        raise UsageError(
            f"secure sums are of {config.privacy.secure_least} hospitals at least; in a round there are {most} "
            "(--hospitals, --fraction, --secure-least)"
        )
    if not (settings.drop_rate or settings.deadline is not None):
        return
    for number in range(done + 1, settings.rounds + 1):
        hospitals = sample(everyone, config, number)
        missing = absent(config, partition, hospitals, number)
        wanted = max(needed(config, len(hospitals)), algorithm.least)
        if (there := len(hospitals) - len(missing)) < wanted:
            who = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise UsageError(
                f"round {number} would stop the run: {there} of its {len(hospitals)} hospitals are there, {wanted} are "
                f"needed ({who}); give a lower --min-replies or --drop-rate, a later --deadline, or another --seed"
            )


def _refuse_units(config: Config, partition: Partition, records: Mapping[str, ImageRecord]) -> None:
    privacy = config.privacy
    if privacy.drawn is not None:
        refuse_without_library()
    for name, images in partition.hospitals.items():
        own = [records[id] for id in images.train]
        if privacy.scores and privacy.unit == "patient":
            fault = fault_of_patients([records[id] for id in images.test], "test")
            if fault:
                raise UsageError(f"--score-epsilon with --unit patient is not possible at {name}: {fault}")
        if privacy.unit == "patient" and (fault := fault_of_patients(own)):
            raise UsageError(
                f"--unit patient is not possible at {name}: {fault}; a CSV with a column patient, or --group-by, names "
                "patients, and --unit group needs none"
            )
        if own and privacy.drawn is not None and privacy.drawn > (units := len(units_of(own, privacy.unit))):
            raise UsageError(
                f"--batch must be at most the {units} units of {name} (--unit {privacy.unit}); got {privacy.drawn}"
            )


def _refuse_delta(config: Config, partition: Partition) -> None:
    delta = config.privacy.delta
    for name, own in partition.hospitals.items():
        sets = {"training": own.train, "test": own.test if config.privacy.scores else ()}
        for called, ids in sets.items():
            if delta * len(ids) >= 1:
                raise UsageError(
                    f"--delta must be below one over the {len(ids)} {called} images of {name}: a larger delta would "
                    f"allow publishing one of them as it is; got {delta:g}"
                )
