"""A disk that is full, read-only or gone ends a run with one sentence and spoils nothing; a resume makes it good."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from fedpolyp import checkpoints
from fedpolyp.cli import _sentence
from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError
from fedpolyp.rounds.observers.hospital_scores import Validation
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher
from tests.tiny import Notes, carry_here, final, same_state, tiny_config, tiny_run

DICES = {0: 0.0, 1: 0.5, 2: 0.1}  # so that round 2 keeps round 1 for its best model


class Disk:
    """Refuses the file called `file` from a given writing of it on: `full` after a part was written, or read-only."""

    def __init__(self) -> None:
        self.file, self.after, self.written, self.full = "", 0, 0, True
        self._fsync, self._open, self._unlink = os.fsync, os.open, os.unlink

    def _refuses(self, name: str) -> bool:
        meant = bool(self.file) and (name == self.file or name.startswith(f".{self.file}."))
        self.written += meant
        return meant and self.written > self.after

    def fsync(self, handle: int) -> None:
        """In the place of `os.fsync`."""
        if self.full and self._refuses(Path(os.readlink(f"/proc/self/fd/{handle}")).name):
            os.ftruncate(handle, max(0, os.fstat(handle).st_size - 20))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(handle)

    def open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        """In the place of `os.open`."""
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes and not self.full and self._refuses(Path(path).name):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return self._open(path, flags, *more, **named)

    def unlink(self, path: Any, **named: Any) -> None:
        """In the place of `os.unlink`, which a read-only disk refuses also for a file that is not there."""
        if self.file and not self.full and Path(path).name.startswith(f".{self.file}."):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        self._unlink(path, **named)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of the run."""
    disk = Disk()
    for name in ("fsync", "open", "unlink"):
        monkeypatch.setattr(os, name, getattr(disk, name))
    return disk


@pytest.fixture(autouse=True)
def _validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Validation, "_val_dice", lambda _, scored, record: (DICES[record.round], {"": DICES[record.round]})
    )


@pytest.fixture(scope="module")
def config() -> Config:
    """Of a run in which hospitals keep a state, too."""
    options = {"federation__rounds": 2, "training__local_epochs": 1, "runtime__keep_checkpoints": 1}
    return tiny_config(algorithm__name="fedbn", **options)


@pytest.fixture(scope="module")
def undisturbed(config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run on a disk with room."""
    run = tiny_run(tmp_path_factory.mktemp("undisturbed") / "run", config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Validation, "_val_dice", lambda _, scored, record: (DICES[record.round], {"": DICES[record.round]})
        )
        carry_here(run, config)
    return run


# The file, how often it was written before the disk refuses it, and the rounds that are complete then.
@pytest.mark.parametrize(
    ("file", "after", "done"),
    [
        ("rounds.jsonl", 2, 1),
        ("round-000002.npz", 0, 1),
        ("best-000001.npz", 0, 2),
        ("000002.npz", 0, 1),
        ("predictions.npz", 0, 2),
        ("images.csv", 0, 2),
    ],
)
@pytest.mark.parametrize("why", ["No space left on device", "Read-only file system"])
def test_a_disk_that_refuses_spoils_nothing_and_a_resume_makes_it_good(
    file: str, after: int, done: int, why: str, disk: Disk, config: Config, undisturbed: RunFolder, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", config)
    disk.file, disk.after, disk.full = file, after, why.startswith("No space")
    with pytest.raises(OSError, match=why) as error:
        carry_here(run, config)
    said = _sentence(error.value)
    assert said.endswith(f"/{file}: {why}") and "\n" not in said
    newest = checkpoints.latest(run.checkpoints, run.fingerprint(), lambda why: pytest.fail(why))
    assert newest is not None and newest.round == done
    assert [record["round"] for record in run.rounds()][: done + 1] == list(range(done + 1))
    assert not list(run.path.rglob("*.part")) and not run.finished
    disk.file = ""
    carry_here(run, config)
    assert same_state(final(run, config), final(undisturbed, config))
    assert run.images_file.read_text() == undisturbed.images_file.read_text()
    for one, other in zip(run.rounds(), undisturbed.rounds(), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_the_next_round_is_not_begun_on_a_full_disk(disk: Disk, config: Config, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", config)
    disk.file = "round-000000.npz"
    with pytest.raises(OSError, match="No space left on device"):
        carry_here(run, config)
    assert checkpoints.rounds_in(run.checkpoints) == [] and [record["round"] for record in run.rounds()] == [0]


class Moving(Watcher):
    """Moves the folder of a run as soon as round 1 is complete."""

    def __init__(self, run: RunFolder, to: Path) -> None:
        self.run, self.to = run, to

    def finished_round(self, record: dict[str, Any]) -> None:
        if record["round"] == 1:
            self.run.path.rename(self.to)


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("fedavg", "rounds.jsonl: No such file or directory"),
        ("fedbn", "the private state of round 1 is gone: there is no .*/run/state/hospital-1/000001.npz"),
    ],
)
def test_a_folder_that_vanishes_ends_the_run_in_words_and_goes_on_once_it_is_found(
    algorithm: str, said: str, tmp_path: Path
) -> None:
    config = tiny_config(algorithm__name=algorithm, federation__rounds=2)
    run, moved = tiny_run(tmp_path / "run", config), tmp_path / "moved"
    with pytest.raises((FedpolypError, OSError)) as error:
        carry_here(run, config, Moving(run, moved))
    assert re.search(said, _sentence(error.value)) and not run.path.exists()
    found = RunFolder(moved)
    assert [record["round"] for record in found.rounds()] == checkpoints.rounds_in(found.checkpoints) == [0, 1]
    carry_here(found, config)
    assert [record["round"] for record in found.rounds()] == [0, 1, 2]


@pytest.mark.parametrize("full", [True, False])
def test_what_cannot_be_written_for_mlflow_is_told_once_and_costs_no_round(
    full: bool, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config, notes = tiny_config(federation__rounds=1, runtime__track="mlflow"), Notes()
    run, disk.file, disk.full = tiny_run(tmp_path / "run", config), "mlflow-run", full
    carry_here(run, config, notes)
    (told,) = [note for note in notes.notes if note.startswith("nothing more is sent to MLflow: OSError: ")]
    assert "mlflow-run" in told and run.images_file.exists()
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0, 1]
