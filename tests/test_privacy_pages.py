"""The numbers on the pages about privacy are those that the code computes."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedpolyp.cli import app
from fedpolyp.privacy.accounting import SCORE_SPAN, mu_of, sigma_for

DOCS = Path(__file__).parents[1] / "docs"


def row(page: str, first: str) -> list[str]:
    """The other cells of the row of a table that begins with the cell `first`."""
    (found,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", (DOCS / page).read_text(), re.MULTILINE)
    return [cell.strip() for cell in found.split("|")]


def test_the_best_attackers_chances_are_those_of_the_noise() -> None:
    from scipy.special import ndtr

    told = dict(zip(row("privacy.md", "epsilon"), row("privacy.md", "correct"), strict=True))
    assert told.pop("0") == "50 %" and len(told) == 5
    for epsilon, chance in told.items():
        # Two normal distributions at a distance of mu: the best test between them errs with the probability Φ(-mu/2).
        sigmas = [sigma_for(float(epsilon), 1e-3, 40)] * 40
        assert chance == f"{ndtr(mu_of(sigmas) / 2):.0%}".replace("%", " %")


@pytest.mark.parametrize(("epsilon", "first"), [(1, "1"), (2, "2"), (4, "4")])
def test_the_noise_of_a_score_is_the_pages(epsilon: float, first: str) -> None:
    sigma = sigma_for(epsilon, 1e-3, 1)
    assert row("privacy-options.md", first) == [f"{1.96 * SCORE_SPAN * sigma / units:.2f}" for units in (20, 40, 100)]


def test_the_plan_that_the_page_shows_is_what_the_command_prints() -> None:
    page = (DOCS / "privacy.md").read_text()
    (command,) = re.findall(r"^fedpolyp (privacy plan .*)$", page, re.MULTILINE)
    (shown,) = re.findall(r"^(a hospital of .*?)^```$", page, re.MULTILINE | re.DOTALL)
    printed = CliRunner().invoke(app, command.split())
    assert printed.exit_code == 0 and printed.output.startswith(shown) and len(shown.splitlines()) == 4
