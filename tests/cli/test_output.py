"""Standard output whose reader goes away."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import exit_code
from tests.test_command_line import ROOT

PROGRAM = [sys.executable, "-m", "fedpolyp"]


@pytest.mark.parametrize("arguments", [["simulate", "--help"], ["config"], ["runs"]])
def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path, arguments: list[str]) -> None:
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize(
    "command", [[], ["simulate"], ["compare"], ["data"], ["data", "show"], ["runs"], ["runs", "show"], ["site", "join"]]
)
def test_h_is_help_everywhere(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for asked in ("-h", "--help"):
        assert exit_code(monkeypatch, *command, asked) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and "Usage: " in shown[0] and " ".join(command) in shown[0]
