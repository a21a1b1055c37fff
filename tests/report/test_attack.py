"""The page of attacks needs no other file, takes no name for markup, and tells all that was found."""

import re
from pathlib import Path

import numpy as np

from fedpolyp.privacy.attack import CALIBRATED, LOSS, Attacked, Row
from fedpolyp.privacy.inversion import Inverted
from fedpolyp.privacy.membership import Success
from fedpolyp.report.attack import verdict, write_attack
from tests.tiny import tiny_config, tiny_run

HOSTILE = "<script>alert(1)</script>"
GUESS = Row("model", LOSS, Success(30, 12, 0.52, 0.41, 0.63, 0.04))
FOUND = Row(f"update of {HOSTILE}", CALIBRATED, Success(10, 12, 0.91, 0.85, 0.97, 0.625))


def flat(value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((32, 32, 3), value, np.uint8)


def test_the_verdict_counts_attacks_that_are_better_than_guessing() -> None:
    assert verdict(Attacked((GUESS,), ())) == (
        "No attack was better than guessing. The largest area under the ROC curve was 0.52 (0.41 to 0.63), by loss on "
        "the model."
    )
    assert verdict(Attacked((GUESS, FOUND), ())).startswith("1 of 2 attacks were better than guessing. The largest")


def test_the_page_has_every_row_the_pictures_and_their_decibels(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", tiny_config())
    inverted = Inverted(f"{HOSTILE}.png", flat(10), flat(60), flat(30), flat(11))
    page = tmp_path / "attack.html"
    write_attack(page, run, Attacked((GUESS, FOUND), ("A sentence.",), (inverted,)))
    text = page.read_text()
    assert HOSTILE not in text and text.count("&lt;script&gt;") == 3  # the verdict, a row and a picture
    assert "0.52 (0.41 to 0.63)" in text and "0.91 (0.85 to 0.97)" in text and "62 %" in text and "A sentence." in text
    assert re.findall(r"([\d.]+) dB(, shapes [\d.]+)?</figcaption>", text) == [
        ("14.2", ", shapes 0.00"),
        ("22.1", ""),
        ("48.1", ", shapes 0.00"),
    ]
    assert "Gradient inversion failed: 14.2 dB" in text and "protect it like them" in text
    assert text.count("data:image/jpeg;base64,") == 4
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "http" not in text


def test_without_pictures_the_page_shows_and_says_none(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", tiny_config())
    write_attack(tmp_path / "attack.html", run, Attacked((GUESS,), ()))
    text = (tmp_path / "attack.html").read_text()
    assert "data:image" not in text and "gradient" not in text and "protect it like them" not in text
