"""Refuses a run that could not be carried to its last round, before it begins."""

from collections.abc import Mapping

from fedpolyp.algorithms.base import Algorithm
from fedpolyp.algorithms.finding import make
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import ImageRecord
from fedpolyp.errors import UsageError
from fedpolyp.privacy.accounting import refuse_without_library
from fedpolyp.privacy.units import fault_of_patients, units_of
from fedpolyp.rounds.absence import absent
from fedpolyp.rounds.sampling import needed, sample


def refuse_impossible(
    config: Config, partition: Partition, done: int = 0, records: Mapping[str, ImageRecord] | None = None
) -> None:
    """Refuse hospitals that are not in the partition, and rounds after `done` that would have too few hospitals.

    Absences are drawn from the seed, so such a round would fail again whenever the run is resumed. With privacy,
    hospitals are refused whose images the guarantee cannot protect. In a simulation `records` has all images by their
    ids: then hospitals that do not have the units that the run protects are refused, too.

    Raises:
        UsageError: there is such a hospital or round.
    """
    _refuse_unknown(config, partition)
    algorithm = make(config, sorted(partition.hospitals))
    if not algorithm.federated:
        return
    if config.privacy.on:
        _refuse_delta(config, partition)
        if records is not None:
            _refuse_units(config, partition, records)
    _refuse_few(config, partition, algorithm)
    if config.federation.drop_rate or config.federation.deadline is not None:
        _refuse_absences(config, partition, algorithm, done)


def _refuse_unknown(config: Config, partition: Partition) -> None:
    """Refuse settings about hospitals that are not there."""
    everyone, settings = sorted(partition.hospitals), config.federation
    for option, named in (("slow", settings.slowness), ("liars", settings.lying)):
        if strange := sorted({*named} - {*everyone}):
            allowed = ", ".join(everyone[:5]) + (", …" if len(everyone) > 5 else "")
            raise UsageError(f"federation.{option} names {', '.join(strange)}; the hospitals are {allowed}")


def _refuse_few(config: Config, partition: Partition, algorithm: Algorithm) -> None:
    """Refuse rounds that have too few hospitals even when none is absent."""
    most = len(sample(sorted(partition.hospitals), config, 1))
    if most < algorithm.least:
        raise UsageError(
            f"the algorithm {config.algorithm.name} with these settings needs {algorithm.least} hospitals in a round; "
            f"there are {most} (--hospitals, --fraction)"
        )
    if config.privacy.secure_sums and most < config.privacy.secure_least:
        raise UsageError(
            f"secure sums are of {config.privacy.secure_least} hospitals at least; in a round there are {most} "
            "(--hospitals, --fraction, --secure-least)"
        )


def _refuse_absences(config: Config, partition: Partition, algorithm: Algorithm, done: int) -> None:
    """Refuse the first round after `done` in which too many hospitals are absent."""
    everyone = sorted(partition.hospitals)
    for number in range(done + 1, config.federation.rounds + 1):
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
