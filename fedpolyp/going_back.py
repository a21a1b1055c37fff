"""Going back to an earlier checkpoint of a run; what came after it is set aside in the run folder, never deleted."""

import shutil
from pathlib import Path

from fedpolyp import checkpoints
from fedpolyp.errors import UsageError
from fedpolyp.runs import RunFolder

_AFTER_THE_ROUNDS = ("images.csv", "predictions.*", "curves.png", "model-*.keras")


def go_back(run: RunFolder, round: int) -> None:
    """Have `run`, which nobody else may be at work on, go on after `round` when it is resumed.

    Later checkpoints and what is made after the last round move to `set-aside/<n>/`, with a copy of rounds.jsonl.

    Raises:
        UsageError: there is no checkpoint of `round` to resume from.
    """
    folders = _checkpoint_folders(run)
    there = sorted(set.intersection(*(set(checkpoints.rounds_in(folder)) for folder in folders)))
    if round not in there:
        known = ", ".join(map(str, there)) or "none"
        raise UsageError(
            f"{run.path} has no checkpoint of round {round} to go back to; it has those of rounds: {known}"
        )
    if round == there[-1] and not run.images_file.exists():
        return
    aside = run.path / "set-aside"
    aside = aside / str(1 + sum(1 for _ in aside.glob("*")))
    aside.mkdir(parents=True)
    shutil.copyfile(run.rounds_file, aside / run.rounds_file.name)
    # The results first: a kill in between leaves a run without them, which a resume makes again.
    for pattern in _AFTER_THE_ROUNDS:
        for file in run.path.glob(pattern):
            file.rename(aside / file.name)
    for folder in folders:
        to = aside / folder.relative_to(run.path)
        for kind, path in (("round", checkpoints.checkpoint_path), ("best", checkpoints.best_path)):
            for later in (known for known in checkpoints.rounds_in(folder, kind) if known > round):
                to.mkdir(parents=True, exist_ok=True)
                path(folder, later).rename(path(to, later))


def _checkpoint_folders(run: RunFolder) -> list[Path]:
    """Where the run's checkpoints lie: in the local arm a folder for each hospital."""
    return sorted(path for path in run.checkpoints.iterdir() if path.is_dir()) or [run.checkpoints]
