"""`fedpolyp site` as the tests call it."""

from typer.testing import CliRunner

from fedpolyp.cli import app


def fedpolyp(*arguments: str) -> str:
    """What the command prints; raises what it raises."""
    outcome = CliRunner().invoke(app, ["site", *arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return outcome.output
