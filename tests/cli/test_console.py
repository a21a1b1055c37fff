"""What another party wrote reaches a terminal or a log as text, whatever it is made of."""

import io
import subprocess
import sys

import pytest

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.flower import Command
from fedpolyp.cli.screen import LiveScreen, PlainScreen, _progress
from fedpolyp.cli.supervise import _pass_on
from fedpolyp.cli.tables import plain_table, round_table
from server.app import LogWatcher
from server.exchange import _plain_reason, _reason
from tests.cli.test_tables import records
from tests.command import exit_code

HOSTILE = "\x1b]0;owned\x07 \x1b[2J [red]gone[/red] \x9b2J"
SHOWN = r"\x1b]0;owned\x07 \x1b[2J [red]gone[/red] \x9b2J"


def test_a_note_and_a_cell_cannot_steer_the_terminal() -> None:
    console = PlainConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    PlainScreen(console).note(HOSTILE)
    table = plain_table(None, HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    rounds = records(2, 0)
    rounds[0]["hospitals"] = {HOSTILE: {"val_dice": 0.5}}
    console.print(round_table(rounds))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert said.count(SHOWN) == 4 and "\x1b" not in said and "\x9b" not in said and "\x07" not in said


def test_the_bar_shows_a_hospital_by_its_name_alone() -> None:
    progress = _progress(PlainConsole(file=io.StringIO()))
    screen = LiveScreen(PlainConsole(file=io.StringIO()), progress)
    screen.asked(1, "train", [HOSTILE])
    assert SHOWN in progress.tasks[0].description


def test_the_sentence_of_a_failure_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code(monkeypatch, "runs", "show", HOSTILE)
    said = capsys.readouterr().err
    assert code == 2 and SHOWN in said and "\x1b" not in said


def test_what_a_started_program_prints_cannot_steer_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    script = r"print('\x1b[92mINFO\x1b[0m: \x1b]0;owned\x07 \x1b[2J')"
    heard: list[str] = []
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        _pass_on(process, Command(()), set(), heard.append)
    assert capfd.readouterr().out == "INFO: \\x1b]0;owned\\x07 \\x1b[2J\n" and len(heard) == 1


def test_the_servers_log_and_a_sites_reason_hold_no_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    LogWatcher().note(HOSTILE)
    assert SHOWN in caplog.text and "\x1b" not in caplog.text
    assert _reason(f"RuntimeError: {HOSTILE}") == f"RuntimeError: {SHOWN}"


@pytest.mark.parametrize("text", ["y" * 3_000_000, "\x1b" * 3_000_000, "a\n" * 1_500_000, "", "\n \n"])
def test_a_reason_is_short_whatever_a_site_sends(text: str) -> None:
    assert 1 <= len(_reason(text)) <= 500 and _plain_reason("") == "it failed without a reason"
