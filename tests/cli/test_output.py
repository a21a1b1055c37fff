"""Standard output whose reader goes away."""

import subprocess
import sys
from pathlib import Path

import pytest

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
def test_h_is_help_everywhere(command: list[str]) -> None:
    shown = [subprocess.run([*PROGRAM, *command, asked], cwd=ROOT, capture_output=True) for asked in ("-h", "--help")]
    assert [done.returncode for done in shown] == [0, 0]
    assert shown[0].stdout == shown[1].stdout != b""
