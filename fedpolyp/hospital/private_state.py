"""A hospital's private state: one file for each round, written by the hospital, never sent."""

import logging
import os
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from fedpolyp.algorithms.base import Groups
from fedpolyp.archives import grouped, joined, read_arrays
from fedpolyp.errors import FedpolypError
from fedpolyp.files import replacing

_NAME = re.compile(r"(\d{6})\.npz")
_RUN = re.compile(r"[0-9a-f]{32}")
_UNTOUCHED_DAYS = 30.0
_log = logging.getLogger("flwr")


class Gone(FedpolypError):
    """The state that a round left is missing; training without it would silently give other bits."""


def read(folder: Path, round: int) -> Groups:
    """The state that the hospital's training in `round` left, by group; empty for round 0.

    Raises:
        Gone: it is not there.
        FedpolypError: its file is damaged.
    """
    if round == 0:
        return {}
    path = _path(folder, round)
    try:
        members = read_arrays(path)
    except FileNotFoundError:
        raise Gone(f"the private state of round {round} is gone: there is no {path}") from None
    except ValueError as error:
        raise FedpolypError(f"the private state {path} is damaged: {error}") from None
    return grouped(members)


def write(folder: Path, round: int, state: Groups, keep_from: int, keep: Collection[int] = ()) -> None:
    """Write the state that `round` leaves, whole or not at all, and remove what no checkpoint needs any more.

    A round reads an earlier round's file and writes its own, so a repeated round gives the same bits. Files before
    round `keep_from` are removed, except those of the rounds in `keep`.

    Raises:
        ValueError: a group has a name that could not be read again.
    """
    members = joined(state)
    with replacing(_path(folder, round)) as stream:
        np.savez(stream, **members)  # type: ignore[arg-type]  # numpy's stub offers its own keyword there
    for old in _rounds(folder):
        if old < keep_from and old not in keep:
            _path(folder, old).unlink(missing_ok=True)


def prune(states: Path, run: str) -> None:
    """Mark the folder of `run` in `states` as used now, and remove folders of runs that were not used for 30 days.

    Each request of a run marks it as used. Only folders with the name of a run are removed.
    """
    present, now = states / run, time.time()
    if present.is_dir():
        os.utime(present)
    for folder in states.glob("*"):
        if folder == present or not _RUN.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            last = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
            if now - last > _UNTOUCHED_DAYS * 86400:
                shutil.rmtree(folder)
                _log.info("no request of the run %s has come for 30 days: %s is removed", folder.name, folder)
        except OSError as error:  # a failure to tidy up must not fail the request
            _log.warning("%s could not be removed: %s", folder, error)


def _path(folder: Path, round: int) -> Path:
    return folder / f"{round:06d}.npz"


def _rounds(folder: Path) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in folder.glob("*.npz"))
    return sorted(int(name[1]) for name in names if name)
