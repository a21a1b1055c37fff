"""Checkpoints: everything the next round needs, in one file a round, whole or absent."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp.archives import read_arrays
from fedpolyp.errors import FinalError
from fedpolyp.files import parse_json, replacing
from fedpolyp.model.arrays import Arrays, mismatch

_NAME = re.compile(r"(?:round|best)-(\d{6})\.npz")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `round` rounds."""

    round: int
    fingerprint: str  # of the config that made it
    arrays: Arrays  # the global model
    strategy: Arrays  # the server optimizer's own state, and the averaged Adam moments
    best_round: int  # the round that scored best on validation so far
    best_val_dice: float


class DamagedCheckpoint(FinalError):
    """A checkpoint file that cannot be used; the message names it and says why."""


def judged(model: Checkpoint, val_dice: float | None) -> Checkpoint:
    """`model` with itself as the best so far, if its `val_dice` is the highest, or if no round has been validated."""
    if val_dice is None:
        return replace(model, best_round=model.round) if model.best_val_dice < 0 else model
    return replace(model, best_round=model.round, best_val_dice=val_dice) if val_dice > model.best_val_dice else model


def checkpoint_path(folder: Path, round: int) -> Path:
    """Where the checkpoint of `round` lies in `folder`."""
    return folder / f"round-{round:06d}.npz"


def best_path(folder: Path, round: int) -> Path:
    """Where the checkpoint of `round` lies once it is kept only for having scored best on validation.

    A run does not resume from it: what the hospitals kept of that round may be gone.
    """
    return folder / f"best-{round:06d}.npz"


def rounds_in(folder: Path, kind: str = "round") -> list[int]:
    """The rounds that `folder` has a checkpoint to resume from, oldest first; with kind 'best', the others."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob(f"{kind}-*.npz"))
    return sorted(int(name[1]) for name in names if name)


def oldest(folder: Path) -> int:
    """The first round that a run can resume from; 0 when there is none."""
    return min(rounds_in(folder), default=0)


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoint`, then delete all but the `keep` newest and those that a kept one calls its best."""
    meta: dict[str, Any] = {
        "round": checkpoint.round,
        "fingerprint": checkpoint.fingerprint,
        "best_round": checkpoint.best_round,
        "best_val_dice": checkpoint.best_val_dice,
    }
    members = {f"model/{name}": array for name, array in checkpoint.arrays.items()}
    members |= {f"strategy/{name}": array for name, array in checkpoint.strategy.items()}
    meta["members"] = len(members)  # zip's own directory has no checksum
    with replacing(checkpoint_path(folder, checkpoint.round)) as stream:
        # numpy's stub offers its own keyword there; the names of the arrays are ours
        np.savez(stream, meta=np.frombuffer(json.dumps(meta, allow_nan=False).encode(), np.uint8), **members)  # type: ignore[arg-type]
    newest = [known for known in rounds_in(folder) if known <= checkpoint.round][-keep:]  # a later one was refused
    needed = {checkpoint.best_round, *newest}
    for round in newest[:-1]:
        try:
            needed.add(load(folder, round, None, arrays=False).best_round)
        except DamagedCheckpoint:
            continue
    for round in rounds_in(folder):
        if round not in newest and round in needed:
            checkpoint_path(folder, round).replace(best_path(folder, round))
        elif round not in newest:
            checkpoint_path(folder, round).unlink(missing_ok=True)
    for round in rounds_in(folder, "best"):
        if round not in needed:
            best_path(folder, round).unlink(missing_ok=True)


def load(
    folder: Path, round: int, fingerprint: str | None, arrays: bool = True, like: Checkpoint | None = None
) -> Checkpoint:
    """Read the checkpoint of `round`; with `arrays` false only what is said about it.

    Its arrays must have the names and shapes of those of `like`, where that is given.

    Raises:
        DamagedCheckpoint: it is missing, truncated, corrupt, of a config with another fingerprint or of another model.
    """
    path = checkpoint_path(folder, round)
    if not path.exists() and best_path(folder, round).exists():
        path = best_path(folder, round)
    try:
        members = read_arrays(path, only=() if arrays else ("meta",))
        meta = parse_json(members.pop("meta").tobytes())
        _check_meta(meta, round)
        if arrays and len(members) != meta["members"]:
            raise ValueError(f"it holds {len(members)} of {meta['members']} arrays")
    except FileNotFoundError:
        raise DamagedCheckpoint(f"there is no checkpoint {path}") from None
    except (ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {error}") from None
    if fingerprint is not None and meta["fingerprint"] != fingerprint:
        raise DamagedCheckpoint(f"checkpoint {path} was made by another config")
    model = {name.removeprefix("model/"): a for name, a in members.items() if name.startswith("model/")}
    strategy = {name.removeprefix("strategy/"): a for name, a in members.items() if name.startswith("strategy/")}
    if like is not None:
        for found, expected in ((model, like.arrays), (strategy, like.strategy)):
            if fault := mismatch(found, {name: array.shape for name, array in expected.items()}):
                raise DamagedCheckpoint(f"checkpoint {path} does not fit the run's model: {fault}")
    return Checkpoint(
        meta["round"], meta["fingerprint"], model, strategy, meta["best_round"], float(meta["best_val_dice"])
    )


def _check_meta(meta: Any, round: int) -> None:
    whole = isinstance(meta, dict) and all(type(meta[name]) is int for name in ("round", "best_round", "members"))
    if not whole or meta["round"] != round or not 0 <= meta["best_round"] <= round:
        raise ValueError(f"what it says about itself is not of round {round}")
    best = meta["best_val_dice"]
    if not isinstance(meta["fingerprint"], str) or type(best) not in (int, float) or not math.isfinite(best):
        raise ValueError("what it says about itself is not what was written")


def latest(
    folder: Path, fingerprint: str, refused: Callable[[str], None], like: Checkpoint | None = None
) -> Checkpoint | None:
    """The newest usable checkpoint; `refused` hears why each newer one is not. None when there are none.

    Usable is what `load` takes, with `like` where that is given.

    Raises:
        DamagedCheckpoint: there are checkpoints, and none can be used.
    """
    for round in reversed(rounds_in(folder)):
        try:
            return load(folder, round, fingerprint, like=like)
        except DamagedCheckpoint as error:
            refused(str(error))
            last = error
    if rounds_in(folder):
        raise DamagedCheckpoint(f"no checkpoint in {folder} can be used; the oldest: {last}")
    return None
