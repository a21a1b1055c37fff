"""The documentation as a site, and its reference pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click import ClickException
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from fedpolyp.cli import app
from fedpolyp.config import Config
from scripts.docs_hooks import on_page_markdown
from scripts.reference import commands_page, settings_page

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "mkdocs.yml")


@pytest.fixture(autouse=True)
def _without_its_advertisement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")


def _built(out: Path, **changes: Any) -> Path:
    config = load_config(CONFIG, site_dir=str(out), **changes)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return out


def test_the_site_builds_strictly_with_every_page_and_asks_for_nothing_elsewhere(tmp_path: Path) -> None:
    site = _built(tmp_path / "site")
    pages = list(site.rglob("*.html"))
    assert (
        len(pages) > 20 and (site / "settings" / "index.html").exists() and (site / "SECURITY" / "index.html").exists()
    )
    for page in pages:
        text = page.read_text("utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, page
        for link in re.findall(
            r'(?:href|src)="([^":#?]+)["#?]', text
        ):  # strict mode lets pass what `exclude_docs` leaves out
            target = site / link.lstrip("/") if link.startswith("/") else page.parent / link
            assert target.is_file() or (target / "index.html").is_file(), f"{page}: {link}"


@pytest.mark.parametrize("text", ["[gone](nowhere.md)", "[gone](index.md#nowhere)", "![gone](nowhere.png)"])
def test_a_link_that_leads_nowhere_fails(text: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    with pytest.raises(Abort, match="strict mode"):
        _built(tmp_path / "site", docs_dir=str(tmp_path / "docs"), nav=None, hooks=[])


def test_a_link_out_of_the_docs_becomes_a_page_or_a_path_and_one_to_nothing_fails() -> None:
    assert on_page_markdown("see [it](../SECURITY.md#a)") == "see [it](SECURITY.md#a)"
    assert on_page_markdown("[code](../scripts/docs)") == "code (`scripts/docs`)"
    with pytest.raises(ValueError, match="there is no nowhere.md"):
        on_page_markdown("[it](../nowhere.md)")


def test_the_reference_has_every_setting_and_every_command() -> None:
    page = settings_page()
    for name, field in Config.model_fields.items():
        members = getattr(type(field.default), "model_fields", {})
        for one in [f"{name}.{member}" for member in members] or [name]:
            assert f"| `{one}` |" in page
    assert "| `algorithm.mu` | `--mu` |" in page and "number ≥ 0" in page
    commands = commands_page()
    found = list(_names(typer.main.get_command(app), "fedpolyp"))
    assert len(found) > 20 and all(f"## {name}\n" in commands for name in [*found, "fedpolyp runs"])
    assert "a finished run: its folder, or its name under runs/" in commands  # the help of an argument
    assert "[dim]" not in commands + page and "\\[" not in commands + page
    assert "best on validation (one of last, best; default: last) |" in commands and "(default: --keys) |" in commands
    assert "\nfedpolyp view [RUN|COMPARISON]\n" in commands and "`RUN|COMPARISON` |" in commands


def test_every_command_in_the_docs_has_options_and_values_that_it_takes() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    lines = [line for page in pages for line in _commands(page.read_text("utf-8"))]
    assert len(lines) > 50
    root: Any = typer.main.get_command(app)
    for line in lines:
        command, words = root, shlex.split(line)[1:]
        while below := getattr(command, "commands", None):
            assert words and words[0] in below, line
            command = below[words.pop(0)]
        try:
            command.make_context("", words)
        except ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


def _commands(page: str) -> Iterator[str]:
    """The lines of a page's blocks that call fedpolyp, without comments, `[` and `]`, and what the shell takes."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page.replace("\\\n", " "), re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^fedpolyp .*", block, re.MULTILINE):
            yield re.sub(r"\s[#>&].*|[\[\]…]", "", line)


def _names(command: Any, name: str) -> Iterator[str]:
    below = getattr(command, "commands", {})
    for word, one in below.items():
        yield from _names(one, f"{name} {word}")
    if not below:
        yield name
