"""A run at real sites is followed, lost sight of and found again; Flower's commands are played."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.cli import flower, following
from fedpolyp.cli.following import follow, under_way
from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RunFolder
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.progress import FileWatcher, progress_file
from fedpolyp.sites.settings import CoordinatorSettings

Answer = Callable[[], dict[str, Any]]
NOBODY = FedpolypError("the coordinator does not answer")


def listing(**states: str) -> dict[str, Any]:
    return {"runs": [{"run-id": id[1:], "status": state, "status-details": "why"} for id, state in states.items()]}


class Asked:
    """What the command `flwr` is asked, and what it answers, one after the other; the last again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | FedpolypError | Answer) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.answers = list(answers)
        monkeypatch.setattr(flower.Command, "answer", lambda command: self.answer(command))
        monkeypatch.setattr(following, "_STATUS_SECONDS", -1.0)
        monkeypatch.setattr(following, "_POLL_SECONDS", 0.0)

    def answer(self, command: flower.Command) -> dict[str, Any]:
        self.commands.append(command.arguments)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, FedpolypError):
            raise answer
        return answer() if callable(answer) else answer


@pytest.fixture
def settings(tmp_path: Path) -> CoordinatorSettings:
    make_federation(tmp_path / "deploy", "localhost", 9443, ["oslo"])
    return CoordinatorSettings.load(tmp_path / "deploy" / "coordinator")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def told(run: RunFolder, flower_run: str, event: str, **details: Any) -> None:
    FileWatcher(progress_file(run), flower_run).tell(event, **details)


def test_a_listing_that_fails_does_not_end_the_following(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def last() -> dict[str, Any]:
        told(run, "7", "finished")
        return listing(_7="running")

    asked = Asked(monkeypatch, NOBODY, NOBODY, last)
    told(run, "7", "note", text="it has begun")
    with run.locked():
        follow(settings, run, "7", quiet=False)
    assert len(asked.commands) == 3 and not any("stop" in command for command in asked.commands)
    assert "the coordinator does not answer; asking again" in capfd.readouterr().out


def test_a_coordinator_that_stays_away_ends_it_with_that_reason(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PATIENCE", -1.0)
    Asked(monkeypatch, NOBODY)
    with pytest.raises(FedpolypError, match="does not answer"):
        follow(settings, run, "7", quiet=True)


def test_a_failure_told_before_the_following_began_is_given_with_its_reason(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(run, "6", "failed", reason="of another time")
    told(run, "7", "failed", reason="the disk is full")
    Asked(monkeypatch, listing(_7="finished:failed"))
    with pytest.raises(FedpolypError, match="^the disk is full$"):
        follow(settings, run, "7", quiet=True)


def test_one_run_too_many_does_not_end_the_following_of_the_first(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(run, "7", "submitted")
    told(run, "8", "failed", reason="another process is at work")
    told(run, "7", "finished")
    Asked(monkeypatch, listing(_7="running"))
    follow(settings, run, "7", quiet=True)


def test_a_run_that_ended_without_a_word_is_named_with_flowers_own_words(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch, listing(_7="finished:failed"))
    with pytest.raises(FedpolypError, match=r"without a message; its state in Flower is finished:failed \(why\)"):
        follow(settings, run, "7", quiet=True)


@pytest.mark.parametrize(
    ("answer", "why"), [(listing(_7="running"), "has ended without a message"), (NOBODY, "does not answer")]
)
def test_a_run_whose_process_was_killed_is_not_waited_for(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch, answer: Any, why: str
) -> None:
    Asked(monkeypatch, answer)
    told(run, "7", "note", text="it has begun")
    with pytest.raises(FedpolypError, match=why):
        follow(settings, run, "7", quiet=True)
    assert under_way(settings, run) is None


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (listing(_6="finished:failed", _7="running", _8="finished:failed"), "7"),
        (listing(_6="finished:failed", _8="pending"), "8"),
        (listing(_6="finished:failed", _7="finished:stopped", _8="finished:failed"), None),
        (listing(_9="running"), None),
        (listing(), None),
    ],
    ids=["running", "pending", "ended", "another one's", "forgotten"],
)
def test_the_one_of_flowers_runs_that_is_at_work_on_a_folder_is_found(
    settings: CoordinatorSettings,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    listed: dict[str, Any],
    expected: str | None,
) -> None:
    for flower_run in ("6", "7", "8"):
        told(run, flower_run, "submitted")
    told(run, "7", "note", text="it has begun")
    Asked(monkeypatch, listed)
    with run.locked():
        assert under_way(settings, run) == expected


def test_a_run_that_was_never_submitted_is_not_under_way(
    settings: CoordinatorSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, NOBODY)
    assert under_way(settings, run) is None and not asked.commands


def test_every_line_of_the_progress_names_flowers_run(run: RunFolder) -> None:
    told(run, "7", "note", text="hello")
    assert json.loads(progress_file(run).read_text()) == {"event": "note", "flower_run": "7", "text": "hello"}
