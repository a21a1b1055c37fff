"""`fedpolyp site log`: the log of a site, whatever it holds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedpolyp.cli import app
from fedpolyp.errors import FedpolypError
from fedpolyp.sites import audit
from tests.cli.site.called import fedpolyp


def test_the_log_shows_its_entries_and_that_one_was_changed(deploy: Path) -> None:
    log = deploy / "oslo" / "private" / "audit.jsonl"
    for event in ("asked", "sent"):
        audit.append(log, event, {"message": "evaluate", "set": "val", "round": 3, "bytes": 17, "sha256": "ab" * 32})
    said = fedpolyp("log", "--folder", str(deploy / "oslo"))
    assert "evaluate val" in said and "2 entries, none changed" in said
    log.write_bytes(log.read_bytes().replace(b'"bytes": 17', b'"bytes": 18', 1))
    with pytest.raises(FedpolypError, match="line 1 was changed after it was written"):
        fedpolyp("log", "--folder", str(deploy / "oslo"))


def test_whatever_the_log_holds_is_shown_without_steering_the_terminal(deploy: Path) -> None:
    log = deploy / "oslo" / "private" / "audit.jsonl"
    values: list[object] = [1764106621.5, None, ["\x1b[2J"], {"a": {}}, True, "\x1b]0;title\x07"]
    for value in values:
        audit.append(log, "asked", {"message": value, "round": value, "bytes": value, "sha256": value, "reason": value})
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    for entry, value in zip(lines, values, strict=True):
        entry["time"] = entry["event"] = value
    log.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    outcome = CliRunner().invoke(app, ["site", "log", "--folder", str(deploy / "oslo")])
    assert isinstance(outcome.exception, FedpolypError) and "line 1 was changed" in str(outcome.exception)
    assert "\x1b" not in outcome.output and "1764106621.5" in outcome.output
