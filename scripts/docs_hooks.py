"""Hooks for MkDocs beside mkdocs.yml: pages generated from the code, and pages from the checkout's root."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OF_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]*)\]\(\.\./(?P<path>[^)#]*)(?P<anchor>#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    if str(ROOT) not in sys.path:  # MkDocs loads this file by its path
        sys.path.insert(0, str(ROOT))
    from scripts.reference import commands_page, settings_page

    made = {"commands.md": commands_page(), "settings.md": settings_page()}
    made |= {name: (ROOT / name).read_text("utf-8").replace("](docs/", "](") for name in _OF_THE_ROOT}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A link out of docs/ leads to a page of the site, or becomes the path of a file in the checkout.

    Raises:
        ValueError: there is no such file.
    """
    return _OUTSIDE.sub(_inside, markdown)


def _inside(link: re.Match[str]) -> str:
    path = link["path"]
    if path in _OF_THE_ROOT:
        return f"[{link['text']}]({path}{link['anchor'] or ''})"
    if not (ROOT / path).exists():
        raise ValueError(f"there is no {path}, which a page links to")
    return f"{link['text']} (`{path}`)"
