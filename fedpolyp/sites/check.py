"""What a site should know before it joins: whether its images, its machine and its connection are suitable."""

import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedpolyp.config import AlgorithmConfig, Config, DataConfig
from fedpolyp.errors import FedpolypError, Refusal, UsageError
from fedpolyp.planning import this_machine, trainer_bytes
from fedpolyp.privacy.accounting import epsilon_of_all
from fedpolyp.privacy.units import fault_of_patients, units_of
from fedpolyp.sites.connection import connect, warnings_of
from fedpolyp.sites.limits import Limits
from fedpolyp.sites.settings import SiteSettings

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord, Store

_STEPS = 3
_GIB = 1024**3
_LITTLE_DISK = 2 * _GIB
_NEARLY = 0.1  # how far the declared number of test units may be off, as a share of it


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    about: str
    good: bool
    text: str


def checks(settings: SiteSettings, config: Config | None = None) -> Iterator[Finding]:
    """Run the checks one by one, the slow ones last; `config` is the experiment to expect."""
    yield _key(settings)
    yield _folder(settings)
    memory = _memory(config or Config())
    yield memory
    yield from _connection(settings)
    yield from _budget(settings)
    yield from _experiment(settings, config, memory.good)


def _key(settings: SiteSettings) -> Finding:
    for key in (settings.key, settings.mask_key):
        try:
            mode = stat.S_IMODE(key.stat().st_mode)
        except OSError as error:
            if key == settings.mask_key and isinstance(error, FileNotFoundError):  # needed for secure sums only
                continue
            return Finding("key", False, f"{key} cannot be read: {error.strerror}")
        if mode & 0o077:
            return Finding("key", False, f"others can read {key}: chmod 600 {key}")
    return Finding("key", True, f"{settings.key}, readable only by its owner")


def _folder(settings: SiteSettings) -> Finding:
    place = settings.private if settings.private.exists() else settings.folder  # 'site join' makes it
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", False, f"{place} cannot be written to")
    free = shutil.disk_usage(place).free
    return Finding("disk", free >= _LITTLE_DISK, f"{free / _GIB:.1f} GiB free in {place}, 2 are needed")


def _memory(config: Config) -> Finding:
    needed, free = 1.5 * trainer_bytes(config), this_machine().memory  # with half as much in reserve
    return Finding("memory", free >= needed, f"{free / _GIB:.1f} GiB free, {needed / _GIB:.1f} are needed")


def _connection(settings: SiteSettings) -> Iterator[Finding]:
    try:
        connection = connect(settings)
    except (ConnectionError, UsageError) as error:
        yield Finding("coordinator", False, str(error))
        return
    yield Finding(
        "coordinator", True, f"{settings.coordinator} reached; certificate good for {connection.days_left:.0f} days"
    )
    for warning in warnings_of(connection):
        yield Finding("coordinator", False, warning)


def _budget(settings: SiteSettings) -> Iterator[Finding]:
    """Limits on privacy that without a limit on epsilon are less than they seem."""
    limits = settings.limits
    if limits.epsilon is not None:
        return
    if limits.unit == "patient":
        yield Finding(
            "budget",
            False,
            "[limits] unit 'patient' holds for requests with privacy alone: without [limits] epsilon this site also "
            "trains without privacy, which protects no patient",
        )
    if limits.delta != Limits().delta:
        yield Finding("budget", False, "[limits] delta has no effect without [limits] epsilon")


def _experiment(settings: SiteSettings, config: Config | None, try_it: bool) -> Iterator[Finding]:
    from fedpolyp.sites.images import images_of

    expected = config or Config()
    try:
        store, ids = images_of(settings, expected.data.image_size)
    except FedpolypError as error:
        yield Finding("images", False, str(error))
        return
    rejected = store.report.rejected
    left_out = f", {len(rejected)} left out (first: {rejected[0].file}: {rejected[0].reason})" if rejected else ""
    sets = f"{len(ids.train)} for training, {len(ids.val)} for validation, {len(ids.test)} for the test"
    said = [f"{store.report.used} pairs{left_out}", sets, *store.report.notes]
    yield Finding("images", len(ids.train) > 0, "; ".join(said))
    if config is not None:
        yield _limits(settings, config, len(ids.train))
        if config.privacy.secure_sums:
            yield _mask_key(settings)
        if config.privacy.on:
            yield _privacy(settings, config, [store.records[position] for position in store.positions(ids.train)])
        if config.privacy.on and config.privacy.unit == "patient":
            yield _patients([store.records[position] for position in store.positions(ids.train)])
        if config.privacy.scores:
            yield _score(settings, config, [store.records[position] for position in store.positions(ids.test)])
    if expected.algorithm.name not in settings.limits.algorithms:  # the site must not import its code
        expected = expected.model_copy(update={"algorithm": AlgorithmConfig()})
    if try_it and ids.train:
        yield _training(settings, expected, store, ids.train)


def _limits(settings: SiteSettings, config: Config, images: int) -> Finding:
    try:
        # Each party decides where its images are, so this is not part of the request.
        asked = {"data": DataConfig(image_size=config.data.image_size), "model": config.model.architecture}
        settings.limits.check(config.model_copy(update=asked))
        if not config.privacy.on:
            settings.limits.check_steps(images, config)
    except Refusal as refusal:
        return Finding("limits", False, f"{refusal}; [limits] in site.toml says what is allowed")
    return Finding("limits", True, "the experiment asks for no more than [limits] in site.toml allows")


def _mask_key(settings: SiteSettings) -> Finding:
    from fedpolyp.sites.roster import read_mask_key

    try:
        public = read_mask_key(settings.mask_key).public_key().public_bytes_raw()
    except UsageError as error:
        return Finding("mask key", False, str(error))
    return Finding("mask key", True, f"public key {public.hex()}: the coordinator's roster must have the same")


def _privacy(settings: SiteSettings, config: Config, records: Sequence["ImageRecord"]) -> Finding:
    """What the experiment would spend, and what has been spent."""
    privacy, rounds = config.privacy, config.federation.rounds
    try:
        keeper = settings.keeper
        if fault := _too_large(settings, config, records):
            return Finding("privacy", False, fault)
        spent, coming = keeper.ledger.sums(), [privacy.noise(rounds, settings.declared_units or 1)] * rounds
        coming += [privacy.score_noise()] if privacy.scores and settings.declared_test_units else []
        if keeper.limit is not None:
            keeper.limit.refuse([*spent, *coming])
        before, after = (epsilon_of_all(sums, privacy.delta) for sums in (spent, [*spent, *coming]))
    except (Refusal, FedpolypError) as error:
        return Finding("privacy", False, str(error))
    return Finding("privacy", True, f"epsilon {before:.2f} spent, {after:.2f} after it, at delta {privacy.delta:g}")


def _too_large(settings: SiteSettings, config: Config, records: Sequence["ImageRecord"]) -> str:
    """Why a delta would allow to publish a unit, although it is below one over the declared number; '' if none would.

    The site does not refuse it later: that would reveal the true number.
    """
    there, limits = len(units_of(records, config.privacy.unit)), settings.limits
    deltas = {"the experiment": config.privacy.delta, "[limits]": limits.delta if limits.epsilon is not None else 0.0}
    for whose, delta in deltas.items():
        if delta * there >= 1:
            return (
                f"delta must be below one over the {there} units of the training images; {whose} has {delta:g}, and "
                f"site.toml declares {settings.declared_units} units"
            )
    return ""


def _score(settings: SiteSettings, config: Config, records: Sequence["ImageRecord"]) -> Finding:
    """Whether the site would give a noisy score of its test images, and divide by about their number."""
    unit, declared = config.privacy.unit, settings.declared_test_units
    if unit == "patient" and (fault := fault_of_patients(records, "test")):
        return Finding("score", False, f"the experiment protects patients, but {fault}: the site gives no score")
    there = len(units_of([record for record in records if record.lesion_fraction > 0], unit))
    if declared is None:
        said = f"site.toml names no declared_test_units (there are {there} with a polyp): the site gives no noisy score"
        return Finding("score", False, said)
    share = there / declared
    kept = f"the score keeps {share:.0%} of the mean Dice's distance from 0.5"
    said = f"{there} test units have a polyp, {declared} are declared: {kept}"
    return Finding("score", abs(share - 1) <= _NEARLY, said)


def _patients(records: Sequence["ImageRecord"]) -> Finding:
    """Whether the site can protect the patients of its training images."""
    if fault := fault_of_patients(records):
        names = "a CSV with a column patient, or group_by in site.toml, names patients"
        return Finding("patients", False, f"the experiment protects patients, but {fault}; {names}")
    patients = len({record.patient for record in records})
    return Finding("patients", True, f"{len(records)} training images of {patients} patients")


def _training(settings: SiteSettings, config: Config, store: "Store", train: tuple[str, ...]) -> Finding:
    from fedpolyp.training import shared_trainer

    training = config.training
    trainer = shared_trainer(config.model_copy(update={"training": training.model_copy(update={"local_epochs": 1})}))
    rows = store.positions(train[: training.batch_size])
    images, masks = store.images[rows], store.masks[rows]
    times = []
    for number in range(_STEPS + 1):
        began = time.perf_counter()
        trainer.train(trainer.start.model, images, masks, hospital=settings.name, round=number, learning_rate=1e-3)
        times.append(time.perf_counter() - began)
    seconds = min(times[1:])  # the first traces the model
    steps = -(-len(train) // training.batch_size)
    return Finding(
        "training",
        True,
        f"{seconds:.2f} s a step of {len(rows)} images at {config.data.image_size} pixels: about "
        f"{seconds * steps:.0f} s for one pass over the training images",
    )
