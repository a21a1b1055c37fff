"""The command line as tests call it."""

import sys

import pytest

from fedpolyp import cli


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """What `fedpolyp` with these arguments ends with."""
    monkeypatch.setattr(sys, "argv", ["fedpolyp", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)
