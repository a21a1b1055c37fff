"""A hospital's private state: one file a round, written by the hospital, never sent."""

import re
from pathlib import Path

import numpy as np

from fedpolyp.archives import read_arrays
from fedpolyp.errors import FedpolypError
from fedpolyp.files import replacing
from fedpolyp.model.arrays import Arrays

_NAME = re.compile(r"(\d{6})\.npz")


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


def _path(folder: Path, round: int) -> Path:
    return folder / f"{round:06d}.npz"


def _rounds(folder: Path) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in folder.glob("*.npz"))
    return sorted(int(name[1]) for name in names if name)
