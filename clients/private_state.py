"""A hospital's private state: one file a round, written by the hospital, never sent."""

import logging
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np

from fedpolyp.archives import read_arrays
from fedpolyp.errors import FedpolypError
from fedpolyp.files import replacing
from fedpolyp.model.arrays import Arrays

_NAME = re.compile(r"(\d{6})\.npz")
_RUN = re.compile(r"[0-9a-f]{32}")
_UNTOUCHED_DAYS = 30.0
_log = logging.getLogger("flwr")


def read_before(folder: Path, round: int) -> Arrays | None:
    """The state that the hospital's last training before `round` left; None before its first.

    Raises:
        FedpolypError: its file is damaged.
    """
    earlier = [known for known in _rounds(folder) if known < round]
    if not earlier:
        return None
    path = _path(folder, earlier[-1])
    try:
        return read_arrays(path)
    except ValueError as error:
        raise FedpolypError(f"the private state {path} is damaged: {error}") from None


def write(folder: Path, round: int, state: Arrays, keep_from: int) -> None:
    """Write the state that `round` leaves, whole or not at all, and drop what no checkpoint needs any more.

    A round reads an earlier round's file and writes its own, so a repeated round gives the same bits. What resuming
    from round `keep_from` would read is the newest file up to it.
    """
    with replacing(_path(folder, round)) as stream:
        np.savez(stream, **state)  # type: ignore[arg-type]  # numpy's stub offers its own keyword there
    for old in [known for known in _rounds(folder) if known <= keep_from][:-1]:
        _path(folder, old).unlink(missing_ok=True)


def prune(states: Path, run: str) -> None:
    """Mark the folder of `run` in `states` as touched now, and remove those of runs untouched for 30 days.

    A run is touched by each order of it. Nothing but folders that are named as runs are is removed. Of one that held a
    hospital's moments a mark stays, by which `was_pruned` knows it.
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
                if _rounds(folder):
                    _mark(states, folder.name).touch()
                shutil.rmtree(folder)
                _log.info("no order of the run %s has come for 30 days: %s is removed", folder.name, folder)
        except OSError as error:  # what is in the way of tidying up is not in the way of the order
            _log.warning("%s could not be removed: %s", folder, error)


def was_pruned(states: Path, run: str) -> bool:
    """Whether moments of `run` were removed: a round that went on from none would give other bits, and not say so."""
    return _mark(states, run).exists()


def _mark(states: Path, run: str) -> Path:
    return states / f"{run}.removed"


def _path(folder: Path, round: int) -> Path:
    return folder / f"{round:06d}.npz"


def _rounds(folder: Path) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in folder.glob("*.npz"))
    return sorted(int(name[1]) for name in names if name)
