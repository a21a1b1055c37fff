"""What a run at real sites told is read back, whatever became of the disk meanwhile."""

from pathlib import Path

import pytest

from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import FileWatcher, last_doings, new_lines, progress_file, told_by


def test_half_a_line_costs_itself_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    FileWatcher(progress_file(run), "1").tell("submitted")
    with progress_file(run).open("a") as stream:
        stream.write('{"event": "started", "flow')
    FileWatcher(progress_file(run), "2").tell("failed", reason="no space")
    assert told_by(run) == {"1": {"submitted"}, "2": {"failed"}}


def test_a_full_disk_is_told_with_the_file() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        FileWatcher(Path("/dev/full"), "1").note("one")


def test_a_line_that_names_no_run_is_of_none(tmp_path: Path) -> None:
    file = progress_file(RunFolder(tmp_path))
    file.write_text('{"event": "note", "text": "x"}\n')
    events, offset = new_lines(file, 0)
    assert events == [{"flower_run": "", "event": "note", "text": "x"}] and offset == file.stat().st_size


def test_lines_are_told_once_and_only_whole(tmp_path: Path) -> None:
    file = progress_file(RunFolder(tmp_path))
    assert new_lines(file, 0) == ([], 0)
    watcher = FileWatcher(file, "1")
    watcher.note("one")
    first, offset = new_lines(file, 0)
    with file.open("a") as stream:
        stream.write("{")
    assert [event["text"] for event in first] == ["one"] and new_lines(file, offset) == ([], offset)


@pytest.mark.parametrize("task", ["train", "unmask", "val", "test", "own"])
def test_each_task_is_told_while_it_goes_on_and_when_it_is_done(task: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    watcher = FileWatcher(progress_file(run), "1")
    watcher.asked(2, task, ["oslo"])
    ((_, doing),) = last_doings(run, ["oslo"])
    watcher.replied(2, task, "oslo", "")
    ((_, done),) = last_doings(run, ["oslo"])
    assert doing.startswith("round 2: ") and done.startswith("round 2: ") and doing != done


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "7",
        '{"event": 3}',
        '{"event": "asked", "round": 1}',
        '{"event": "asked", "round": 1, "task": "rm", "hospitals": []}',
        '{"event": "asked", "round": 1, "task": "train", "hospitals": [{}]}',
        '{"event": "replied", "round": 1, "task": "train", "hospital": "oslo", "reason": null}',
        '{"event": "finished_round", "record": {"round": 1}}',
        '{"event": "note", "text": 1}',
        '{"event": "note", "text": "", "hospitals": 5}',
        '{"event": "note", "text": "", "task": []}',
        '{"event": ' * 50_000,
    ],
)
def test_what_no_run_tells_tells_nothing_and_ends_nothing(tmp_path: Path, line: str) -> None:
    run = RunFolder(tmp_path)
    progress_file(run).write_text(line + "\n")
    FileWatcher(progress_file(run), "1").asked(2, "train", ["oslo"])
    assert list(last_doings(run, ["oslo"])) == [("oslo", "round 2: training")] and told_by(run) == {"1": {"asked"}}
