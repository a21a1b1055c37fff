"""What stops a command, and that it stops it once."""

import subprocess
import sys
import textwrap

import pytest

ENDS = """
import os, signal, sys
{before}
from fedpolyp import __main__, cli, interrupts
def run():
    os.kill(os.getpid(), signal.{name})
def failed():
    try:
        run()
    except KeyboardInterrupt:
        cli._failed("interrupted")
        run()
        sys.exit(1)
cli.main = failed
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
late = Late()
__main__.main()
"""


def ended(name: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    program = textwrap.dedent(ENDS).format(name=name, before=before)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_while_a_command_ends_changes_nothing(name: str) -> None:
    done = ended(name)
    assert (done.returncode, done.stderr) == (1, "fedpolyp: interrupted\n")


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    done = ended("SIGHUP", "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert (done.returncode, done.stderr) == (0, "")
