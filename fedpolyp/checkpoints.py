"""Checkpoints: everything that the next round needs, in one file for each round, whole or absent."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp.algorithms.base import MODEL, Groups, marked, models
from fedpolyp.archives import grouped, joined, read_arrays
from fedpolyp.errors import FinalError
from fedpolyp.files import parse_json, replacing
from fedpolyp.model.arrays import Arrays, mismatch

_NAME = re.compile(r"(?:round|best)-(\d{6})\.npz")


@dataclass(frozen=True)
class Best:
    """The round whose model scored best on validation so far, and its Dice; -1.0 before any was validated."""

    round: int = 0
    val_dice: float = -1.0


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `round` rounds."""

    round: int
    fingerprint: str  # of the config that made it
    state: Groups  # the models, and the algorithm's other state at the server
    best: Mapping[str, Best]  # by the models' marks, see `fedpolyp.algorithms.base.models`

    @property
    def models(self) -> dict[str, Arrays]:
        """The models by their marks."""
        return models(self.state)


class DamagedCheckpoint(FinalError):
    """A checkpoint file that cannot be used; the message names it and says why."""


def judged(before: Checkpoint, val_dice: Mapping[str, float | None]) -> Checkpoint:
    """`before`, with each model as the new best if its `val_dice` is the highest, or if none has been validated."""
    best = {}
    for mark, known in before.best.items():
        dice = val_dice.get(mark)
        if dice is None:
            best[mark] = Best(before.round) if known.val_dice < 0 else known
        else:
            best[mark] = Best(before.round, dice) if dice > known.val_dice else known
    return replace(before, best=best)


def checkpoint_path(folder: Path, round: int) -> Path:
    """The path of the checkpoint of `round` in `folder`."""
    return folder / f"round-{round:06d}.npz"


def best_path(folder: Path, round: int) -> Path:
    """The path of the checkpoint of `round` when it is kept only because it scored best on validation.

    A run does not resume from it: the hospitals' state of that round may be gone.
    """
    return folder / f"best-{round:06d}.npz"


def rounds_in(folder: Path, kind: str = "round") -> list[int]:
    """The rounds with a checkpoint in `folder` to resume from, oldest first; with kind 'best', the others."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob(f"{kind}-*.npz"))
    return sorted(int(name[1]) for name in names if name)


def oldest(folder: Path) -> int:
    """The first round that a run can resume from; 0 if there is none."""
    return min(rounds_in(folder), default=0)


def newest(folder: Path) -> int:
    """The last round with a checkpoint to resume from; 0 if there is none."""
    return max(rounds_in(folder), default=0)


def best_at(folder: Path, round: int, otherwise: Checkpoint) -> Mapping[str, Best]:
    """The best models at the time of the checkpoint of `round`; `otherwise` for those that cannot be read."""
    try:
        return load(folder, round, None, arrays=False).best
    except DamagedCheckpoint:
        return otherwise.best


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoint`, then delete all but the `keep` newest, and the best models of the kept ones."""
    _write(checkpoint_path(folder, checkpoint.round), checkpoint)
    newest = [known for known in rounds_in(folder) if known <= checkpoint.round][-keep:]  # later ones were refused
    best = [*checkpoint.best.items()]
    for round in newest[:-1]:
        try:
            best += load(folder, round, None, arrays=False).best.items()
        except DamagedCheckpoint:
            continue
    needed: dict[int, set[str]] = {}
    for mark, one in best:
        needed.setdefault(one.round, set()).add(mark)
    for round in rounds_in(folder):
        if round not in newest:
            if round in needed:
                _keep_models(folder, round, needed[round])
            checkpoint_path(folder, round).unlink(missing_ok=True)
    for round in rounds_in(folder, "best"):
        if round not in needed:
            best_path(folder, round).unlink(missing_ok=True)


def _keep_models(folder: Path, round: int, marks: Collection[str]) -> None:
    """Write only the models of `marks` to where the best are kept; one that cannot be read stays as it is."""
    try:
        whole = load(folder, round, None)
    except DamagedCheckpoint:
        checkpoint_path(folder, round).replace(best_path(folder, round))
        return
    groups = {marked(MODEL, mark) for mark in marks}
    _write(best_path(folder, round), replace(whole, state={group: whole.state[group] for group in groups}))


def _write(path: Path, checkpoint: Checkpoint) -> None:
    members = joined(checkpoint.state)
    meta = {
        "round": checkpoint.round,
        "fingerprint": checkpoint.fingerprint,
        "best": {mark: [best.round, best.val_dice] for mark, best in checkpoint.best.items()},
        "members": len(members),  # zip's own directory has no checksum
    }
    with replacing(path) as stream:
        # numpy's stub offers its own keyword there; the names of the arrays are ours
        np.savez(stream, meta=np.frombuffer(json.dumps(meta, allow_nan=False).encode(), np.uint8), **members)  # type: ignore[arg-type]


def load(
    folder: Path, round: int, fingerprint: str | None, arrays: bool = True, like: Groups | None = None
) -> Checkpoint:
    """Read the checkpoint of `round`; with `arrays` false only its description.

    If `like` is given, its groups must be the same, with arrays of the same names and shapes. A round that is kept only
    for its best models has no others.

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
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {error}") from None
    if fingerprint is not None and meta["fingerprint"] != fingerprint:
        raise DamagedCheckpoint(f"checkpoint {path} was made by another config")
    state = grouped(members)
    if like is not None:
        if path == checkpoint_path(folder, round) and (differs := sorted(state.keys() ^ like.keys())):
            raise DamagedCheckpoint(f"checkpoint {path} does not fit the run: it has different {', '.join(differs)}")
        for group, found in state.items():
            if fault := mismatch(found, {name: array.shape for name, array in like.get(group, {}).items()}):
                raise DamagedCheckpoint(f"checkpoint {path} does not fit the run's model: {fault}")
    best = {mark: Best(round_, float(dice)) for mark, (round_, dice) in meta["best"].items()}
    return Checkpoint(meta["round"], meta["fingerprint"], state, best)


def _check_meta(meta: Any, round: int) -> None:
    whole = isinstance(meta, dict) and type(meta["round"]) is int and type(meta["members"]) is int
    if not whole or meta["round"] != round or not isinstance(meta["best"], dict):
        raise ValueError(f"its description is not of round {round}")
    for best, dice in meta["best"].values():
        if type(best) is not int or not 0 <= best <= round:
            raise ValueError(f"its description is not of round {round}")
        if type(dice) not in (int, float) or not math.isfinite(dice):
            raise ValueError("its description was changed after it was written")
    if not isinstance(meta["fingerprint"], str):
        raise ValueError("its description was changed after it was written")


def latest(
    folder: Path, fingerprint: str, refused: Callable[[str], None], like: Groups | None = None
) -> Checkpoint | None:
    """The newest usable checkpoint; `refused` is told why each newer one is not usable. None if there are none.

    A checkpoint is usable if `load` accepts it, with `like` if that is given.

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
