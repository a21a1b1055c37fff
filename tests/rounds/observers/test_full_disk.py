"""A disk that is full ends a run with one sentence, spoils nothing that was written, and is made good by a resume."""

import errno
import os
from pathlib import Path

import pytest

from fedpolyp import checkpoints
from fedpolyp.cli import _sentence
from fedpolyp.config import Config
from fedpolyp.rounds.observers.hospital_scores import Validation
from fedpolyp.runs import RunFolder
from tests.tiny import carry_here, final, same_state, tiny_config, tiny_run

DICES = {0: 0.0, 1: 0.5, 2: 0.1}  # so that round 2 keeps round 1 for its best model


class Disk:
    """Refuses the file called `full` after a part of it was written, from a given writing of it on."""

    def __init__(self) -> None:
        self.full, self.after, self.written, self._fsync = "", 0, 0, os.fsync

    def fsync(self, handle: int) -> None:
        """In the place of `os.fsync`."""
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        if self.full and (name == self.full or name.startswith(f".{self.full}.")):
            self.written += 1
            if self.written > self.after:
                os.ftruncate(handle, max(0, os.fstat(handle).st_size - 20))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(handle)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of the run."""
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
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


# The file, how often it was written before the disk is full, and the rounds that are complete then.
@pytest.mark.parametrize(
    ("full", "after", "done"),
    [
        ("rounds.jsonl", 2, 1),
        ("round-000002.npz", 0, 1),
        ("best-000001.npz", 0, 2),
        ("000002.npz", 0, 1),
        ("predictions.npz", 0, 2),
        ("images.csv", 0, 2),
    ],
)
def test_a_full_disk_spoils_nothing_and_a_resume_makes_it_good(
    full: str, after: int, done: int, disk: Disk, config: Config, undisturbed: RunFolder, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", config)
    disk.full, disk.after = full, after
    with pytest.raises(OSError, match="No space left on device") as error:
        carry_here(run, config)
    said = _sentence(error.value)
    assert said.endswith(f"{full}: No space left on device") and "\n" not in said
    newest = checkpoints.latest(run.checkpoints, run.fingerprint(), lambda why: pytest.fail(why))
    assert newest is not None and newest.round == done
    assert [record["round"] for record in run.rounds()][: done + 1] == list(range(done + 1))
    assert not list(run.path.rglob("*.part")) and not run.finished
    disk.full = ""
    carry_here(run, config)
    assert same_state(final(run, config), final(undisturbed, config))
    assert run.images_file.read_text() == undisturbed.images_file.read_text()
    for one, other in zip(run.rounds(), undisturbed.rounds(), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_the_next_round_is_not_begun_on_a_full_disk(disk: Disk, config: Config, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", config)
    disk.full = "round-000000.npz"
    with pytest.raises(OSError, match="No space left on device"):
        carry_here(run, config)
    assert checkpoints.rounds_in(run.checkpoints) == [] and [record["round"] for record in run.rounds()] == [0]
