"""Every protection on the security page has a test, and every party a list of what is not protected."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_security_page_names_is_there() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    tests = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named, files = set(re.findall(r"`(test_\w+)`", page)), set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert len(named) > 20 and named <= tests, named - tests
    assert files and all((ROOT / file).exists() for file in files), files


def test_for_each_kind_of_party_the_page_says_what_is_not_protected() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    parties = [part for part in page.split("\n## ") if "| protection | test |" in part]
    assert len(parties) == 6 and all("Not protected" in part for part in parties)
    assert "private vulnerability reporting" in page and "@" not in page
