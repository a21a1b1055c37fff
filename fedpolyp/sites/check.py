"""What a site should know before it joins: whether its images, its machine and its connection are fit for it."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.sites.connection import connect, warnings_of
from fedpolyp.sites.settings import SiteSettings

_STEPS = 3
_LITTLE_MEMORY, _LITTLE_DISK = 2 * 1024**3, 2 * 1024**3  # bytes: what a training at the default settings needs


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    good: bool
    text: str


def checks(settings: SiteSettings, config: Config | None = None) -> Iterator[Finding]:
    """Look at one thing after the other, the slow ones last; `config` is the experiment to expect."""
    yield _key(settings)
    yield _folder(settings)
    yield _memory()
    yield from _connection(settings)
    yield from _training(settings, config or Config())


def _key(settings: SiteSettings) -> Finding:
    try:
        mode = stat.S_IMODE(settings.key.stat().st_mode)
    except OSError as error:
        return Finding("key", False, f"{settings.key} cannot be read: {error.strerror}")
    if mode & 0o077:
        return Finding("key", False, f"others can read {settings.key}: chmod 600 {settings.key}")
    return Finding("key", True, f"{settings.key}, readable by its owner alone")


def _folder(settings: SiteSettings) -> Finding:
    free = shutil.disk_usage(settings.folder).free
    if not os.access(settings.folder, os.W_OK):
        return Finding("disk", False, f"{settings.folder} cannot be written to")
    return Finding("disk", free >= _LITTLE_DISK, f"{free / 1024**3:.1f} GiB free in {settings.folder}, 2 are needed")


def _memory() -> Finding:
    free = _available_memory()
    if free is None:
        return Finding("memory", True, "this system does not say how much is free; 2 GiB are needed")
    return Finding("memory", free >= _LITTLE_MEMORY, f"{free / 1024**3:.1f} GiB free, 2 are needed")


def _connection(settings: SiteSettings) -> Iterator[Finding]:
    try:
        connection = connect(settings)
    except ConnectionError as error:
        yield Finding("coordinator", False, str(error))
        return
    yield Finding(
        "coordinator", True, f"{settings.coordinator} reached; certificate good for {connection.days_left:.0f} days"
    )
    for warning in warnings_of(connection):
        yield Finding("coordinator", False, warning)


def _training(settings: SiteSettings, config: Config) -> Iterator[Finding]:
    from fedpolyp.sites.images import images_of
    from fedpolyp.training import shared_trainer

    try:
        store, ids = images_of(settings, config.data.image_size)
    except FedpolypError as error:
        yield Finding("images", False, str(error))
        return
    rejected = store.report.rejected
    left_out = f", {len(rejected)} left out (first: {rejected[0].file}: {rejected[0].reason})" if rejected else ""
    sets = f"{len(ids.train)} for training, {len(ids.val)} for validation, {len(ids.test)} for the test"
    yield Finding("images", len(ids.train) > 0, f"{store.report.used} pairs{left_out}; {sets}")
    trainer = shared_trainer(config)
    rows = store.positions(ids.train[: config.training.batch_size])
    images, masks = store.images[rows], store.masks[rows]
    times = []
    for number in range(_STEPS + 1):
        began = time.perf_counter()
        trainer.train(trainer.initial, images, masks, hospital=settings.name, round=number, learning_rate=1e-3)
        times.append(time.perf_counter() - began)
    seconds = min(times[1:])  # the first traces the model
    steps = -(-len(ids.train) // config.training.batch_size)
    yield Finding(
        "training",
        True,
        f"{seconds:.2f} s a step of {len(rows)} images at {config.data.image_size} pixels: about "
        f"{seconds * steps:.0f} s for one pass over the training images",
    )


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
