"""Resumes a run, perhaps from an earlier checkpoint; results that will be made again are set aside, never deleted."""

from pathlib import Path

from fedpolyp import checkpoints
from fedpolyp.checkpoints import DamagedCheckpoint
from fedpolyp.config import Config
from fedpolyp.errors import FinalError, UsageError
from fedpolyp.runs import RunFolder


def refuse_unusable(run: RunFolder, config: Config, round: int | None = None) -> None:
    """Refuse to change `run` if it could not be resumed afterwards from its newest checkpoints, or those of `round`.

    Nothing is written. Loads TensorFlow if there are checkpoints.

    Raises:
        UsageError: there is no checkpoint of `round` to resume from.
        FedpolypError: the checkpoints cannot be used, or rounds.jsonl does not hold their rounds.
    """
    folder = _checkpoints_of(run)
    if round is not None:
        _refuse_unknown(run, round)
    if not checkpoints.rounds_in(folder):
        if done := len(run.rounds()[1:]):
            raise FinalError(
                f"{run.checkpoints} holds no checkpoint to resume from, but {run.rounds_file} holds {done} rounds"
            )
        return
    from fedpolyp.algorithms.finding import make
    from fedpolyp.training import shared_trainer

    like = make(config, sorted(run.partition().hospitals)).begin(shared_trainer(config).start)
    fingerprint = run.fingerprint()
    if round is None:
        newest = checkpoints.latest(folder, fingerprint, lambda why: None, like)
        assert newest is not None
        round = newest.round
        run.rounds_up_to(round)
    checkpoints.load(folder, round, fingerprint, like=like)


def go_back(run: RunFolder, round: int) -> None:
    """Set `run` back so that it resumes after `round`; no other process may be working on it.

    Later checkpoints and the final results move to `set-aside/<n>/`, with a copy of rounds.jsonl.

    Raises:
        UsageError: there is no checkpoint of `round` to resume from.
        FedpolypError: that checkpoint cannot be used.
    """
    folder = _checkpoints_of(run)
    there = _refuse_unknown(run, round)
    checkpoints.load(folder, round, run.fingerprint())
    if round == there[-1] and not run.images_file.exists():
        return
    aside = run.set_results_aside()
    to = aside / folder.name
    for kind, path in (("round", checkpoints.checkpoint_path), ("best", checkpoints.best_path)):
        for later in (known for known in checkpoints.rounds_in(folder, kind) if known > round):
            to.mkdir(exist_ok=True)
            path(folder, later).rename(path(to, later))


def _refuse_unknown(run: RunFolder, round: int) -> list[int]:
    """The rounds with a checkpoint; `round` must be among them."""
    there = checkpoints.rounds_in(run.checkpoints)
    if round not in there:
        known = ", ".join(map(str, there)) or "none"
        raise UsageError(
            f"{run.path} has no checkpoint of round {round} to go back to; it has those of rounds: {known}"
        )
    return there


def _checkpoints_of(run: RunFolder) -> Path:
    if not run.checkpoints.is_dir():
        raise DamagedCheckpoint(f"{run.path} has no folder of checkpoints to resume from")
    return run.checkpoints
