"""Tests that have a process each: Ray ends the one that it is at work for, and without a word, when half of it dies."""

import os
import subprocess
import sys

import pytest

_INSIDE = "FEDPOLYP_TEST_IN_ITS_OWN_PROCESS"
_MOST = 1800  # seconds: only a test that hangs takes so long


def wanted(item: pytest.Function) -> bool:
    """Whether `item` is to run in a process of its own, and does not yet."""
    return item.get_closest_marker("own_process") is not None and os.environ.get(_INSIDE) != item.nodeid


def run(item: pytest.Function) -> None:
    """Run `item` in a process of its own; the test fails, with all that was printed, as it fails there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    options = ["-p", "no:xdist", "--quiet", "--no-header"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, item.nodeid],
        cwd=item.config.rootpath,
        env=environment | {_INSIDE: item.nodeid},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_MOST,
    )
    said = done.stdout.decode(errors="replace")
    if done.returncode or " passed" not in said:  # one that Ray has ended may have any exit code
        pytest.fail(f"in a process of its own, which ended with exit code {done.returncode}:\n{said}", pytrace=False)
