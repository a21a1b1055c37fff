"""What is kept running is started again when it ends, and nothing of it is left behind."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedpolyp.cli import supervise
from fedpolyp.cli.flower import Command
from fedpolyp.cli.supervise import keep_running, serve_until_stopped
from fedpolyp.errors import FedpolypError, UsageError
from tests.signals import PATIENCE, stopped_when


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(process: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not alive(process)


def written(*files: Path) -> Callable[[], bool]:
    """Whether each of `files` holds the number of a process."""
    return lambda: all(file.exists() and file.read_text().endswith("\n") for file in files)


def shell(text: str) -> Command:
    return Command(("sh", "-c", text))


def test_a_stop_ends_what_was_started_and_what_that_started(tmp_path: Path) -> None:
    # Flower's programs start others, some in a session of their own, some deaf to SIGTERM.
    started = shell(f"sleep 600 & echo $! >{tmp_path}/a; setsid sleep 600 & echo $! >{tmp_path}/b; wait")
    files = [tmp_path / name for name in ("a", "b")]
    with stopped_when(written(*files)):
        serve_until_stopped([started])
    assert all(ends(int(file.read_text())) for file in files)


def test_one_that_ends_by_itself_ends_the_others_and_is_named(tmp_path: Path) -> None:
    other = shell(f"until [ -s {tmp_path}/a ]; do sleep 0.1; done; exit 3")
    with pytest.raises(FedpolypError, match=r"^sh has ended \(exit code 3\)$"):
        serve_until_stopped([shell(f"echo $$ >{tmp_path}/a; exec sleep 600"), other])
    assert ends(int((tmp_path / "a").read_text()))


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(FedpolypError, match="there is no program 'no-such-program' on PATH"):
        serve_until_stopped([Command(("no-such-program",))])


def test_what_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    with stopped_when(lambda: len(said) > 1):
        keep_running(shell(f"echo x >>{tmp_path}/times"), lambda: [], said.append)
    assert (tmp_path / "times").read_text().count("x") > 1


@pytest.mark.parametrize(
    ("words", "why"),
    [("you are in", "has ended;"), ("who are you", "does not let this site in"), ("oh", "and printed why")],
)
def test_why_it_ended_is_told(words: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    with stopped_when(lambda: said):
        keep_running(Command(("echo", words), first_words="are in", refused_words="who are"), lambda: [], said.append)
    assert why in said[0]


def test_what_may_pass_by_itself_is_never_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    with stopped_when(lambda: len(said) > 10):
        keep_running(shell("exit 0"), lambda: ["the door is shut"], said.append)
    assert len(said) > 10 and set(said) == {"the door is shut; trying again in 0 s"}


def test_what_will_not_pass_is_given_up_on_at_once() -> None:
    def faults() -> list[str]:
        raise UsageError("there is no door")

    with pytest.raises(UsageError, match="^there is no door$"):
        keep_running(shell("exit 0"), faults, lambda text: pytest.fail(text))


def test_every_line_is_passed_on(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    heard: list[str] = []
    with stopped_when(lambda: len(heard) > 1):
        keep_running(shell("printf 'one\\n\\377two\\n'"), lambda: [], lambda text: None, heard.append)
    assert heard == ["one\n", "\ufffdtwo\n"]
    assert "one\n\ufffdtwo\n".encode() in capfdbinary.readouterr().out


def test_one_that_has_said_its_last_words_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    deaf = Command(("sh", "-c", "echo 'well: i am deaf'; sleep 600"), last_words=("am deaf",))
    with stopped_when(lambda: len(said) > 1):
        keep_running(deaf, lambda: [], said.append)
    assert len(said) > 1 and said[0].startswith("the connection to the coordinator broke; trying again")


def test_what_a_killed_command_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "from fedpolyp.cli.flower import Command; from fedpolyp.cli.supervise import serve_until_stopped;"
        f"serve_until_stopped([Command(('sh', '-c', 'echo $$ >{tmp_path}/a; exec sleep 600'))])"
    )

    ours = subprocess.Popen([sys.executable, "-c", code])
    there, deadline = written(tmp_path / "a"), time.monotonic() + PATIENCE
    while not there() and time.monotonic() < deadline:
        time.sleep(0.1)
    ours.kill()
    ours.wait()
    assert ends(int((tmp_path / "a").read_text()))


def test_other_systems_than_linux_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(FedpolypError, match="real sites need Linux; this is darwin"):
        serve_until_stopped([shell("sleep 600")])
