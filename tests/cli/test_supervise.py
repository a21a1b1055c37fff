"""What is kept running is started again when it ends, and nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedpolyp.cli import supervise
from fedpolyp.cli.flower import Command
from fedpolyp.cli.supervise import keep_running, serve_until_stopped
from fedpolyp.errors import FedpolypError, UsageError


def stop_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    return timer


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def shell(text: str) -> Command:
    return Command(("sh", "-c", text))


def test_a_stop_ends_what_was_started_and_what_that_started(tmp_path: Path) -> None:
    # Flower's programs start others, some in a session of their own, some deaf to SIGTERM.
    started = shell(f"sleep 600 & echo $! >{tmp_path}/a; setsid sleep 600 & echo $! >{tmp_path}/b; wait")
    stop_after(1.5)
    serve_until_stopped([started])
    deadline = time.monotonic() + 30
    for name in ("a", "b"):
        process = int((tmp_path / name).read_text())
        while alive(process) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(process) or "Z" in Path(f"/proc/{process}/stat").read_text()


def test_one_that_ends_by_itself_ends_the_others_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedpolypError, match=r"^sh has ended \(exit code 3\)$"):
        serve_until_stopped([shell(f"echo $$ >{tmp_path}/a; exec sleep 600"), shell("sleep 1; exit 3")])
    assert not alive(int((tmp_path / "a").read_text()))


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(FedpolypError, match="there is no program 'no-such-program' on PATH"):
        serve_until_stopped([Command(("no-such-program",))])


def test_what_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    stop_after(4)
    keep_running(shell(f"echo x >>{tmp_path}/times"), lambda: [], said.append)
    assert (tmp_path / "times").read_text().count("x") > 1


@pytest.mark.parametrize(
    ("words", "why"),
    [("you are in", "has ended;"), ("who are you", "does not let this site in"), ("oh", "and printed why")],
)
def test_why_it_ended_is_told(words: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    stop_after(3)
    keep_running(Command(("echo", words), first_words="are in", refused_words="who are"), lambda: [], said.append)
    assert why in said[0]


def test_what_may_pass_by_itself_is_never_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    stop_after(2)
    keep_running(shell("exit 0"), lambda: ["the door is shut"], said.append)
    assert len(said) > 10 and set(said) == {"the door is shut; trying again in 0 s"}


def test_what_will_not_pass_is_given_up_on_at_once() -> None:
    def faults() -> list[str]:
        raise UsageError("there is no door")

    with pytest.raises(UsageError, match="^there is no door$"):
        keep_running(shell("exit 0"), faults, lambda text: pytest.fail(text))


def test_every_line_is_passed_on(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    heard: list[str] = []
    stop_after(2)
    keep_running(shell("printf 'one\\n\\377two\\n'"), lambda: [], lambda text: None, heard.append)
    assert heard == ["one\n", "\ufffdtwo\n"]
    assert "one\n\ufffdtwo\n".encode() in capfdbinary.readouterr().out


def test_one_that_has_said_its_last_words_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_PAUSE", 0.05)
    said: list[str] = []
    stop_after(4)
    deaf = Command(("sh", "-c", "echo 'well: i am deaf'; sleep 600"), last_words=("am deaf",))
    keep_running(deaf, lambda: [], said.append)
    assert len(said) > 1 and said[0].startswith("the connection to the coordinator broke; trying again")


def test_what_a_killed_command_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "from fedpolyp.cli.flower import Command; from fedpolyp.cli.supervise import serve_until_stopped;"
        f"serve_until_stopped([Command(('sh', '-c', 'echo $$ >{tmp_path}/a; exec sleep 600'))])"
    )

    ours = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (tmp_path / "a").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.2)
    ours.kill()
    ours.wait()
    process = int((tmp_path / "a").read_text())
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(process)
