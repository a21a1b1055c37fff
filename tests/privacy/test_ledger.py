"""The ledger: each sum once, over all runs, and none beyond the limit."""

import json
import os
from pathlib import Path

import pytest

from fedpolyp.config import UNITS
from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.accounting import Noise, epsilon_of, epsilon_of_all, mu_of, sigma_for
from fedpolyp.privacy.ledger import Ledger, Limit


def test_a_sum_that_is_counted_is_not_counted_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "private" / "privacy.jsonl")
    assert ledger.sums() == []
    assert ledger.spend("a" * 64, Noise(2.0), "run", 1) == [Noise(2.0)]
    assert ledger.spend("a" * 64, Noise(2.0), "run", 1) == [Noise(2.0)]
    assert ledger.spend("b" * 64, Noise(3.0), "run", 2) == [Noise(2.0), Noise(3.0)] == ledger.sums()
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [(line["run"], line["round"], line["sigma"]) for line in lines] == [("run", 1, 2.0), ("run", 2, 3.0)]


def test_what_goes_beyond_the_limit_is_refused_and_not_counted_in_a_second_run_neither(tmp_path: Path) -> None:
    ledger, limit = Ledger(tmp_path / "privacy.jsonl"), Limit(8.0, 1e-3)
    sigma = sigma_for(8.0, 1e-3, 3)
    for number in range(3):  # a plan for all of it is allowed to its end
        ledger.spend(f"{number}", Noise(sigma), "one", number + 1, limit)
    for run in ("one", "another"):
        with pytest.raises(Refusal, match=r"epsilon 8 at delta 0\.001 in all runs together; .* it would be 9\.69"):
            ledger.spend("3", Noise(sigma), run, 4, limit)
    assert ledger.sums() == [Noise(sigma)] * 3
    assert ledger.spend("2", Noise(sigma), "one", 3, limit) == [Noise(sigma)] * 3  # which has left already
    assert epsilon_of(mu_of([sigma] * 4), 1e-3) == pytest.approx(9.69, abs=0.005)


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_of_the_settings_can_be_recorded_and_read(unit: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    ledger.spend("a", Noise(1.0), "run", 1, unit=unit)
    assert ledger.spend("b", Noise(2.0), "run", 2, unit=unit) == [Noise(1.0), Noise(2.0)]


@pytest.mark.parametrize(("first", "then"), [("image", "group"), ("group", "image"), ("patient", "group")])
def test_sums_that_protect_another_unit_are_refused_for_no_epsilon_holds_for_both(
    first: str, then: str, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    ledger.spend("a", Noise(2.0), "one", 1, unit=first)
    with pytest.raises(Refusal, match=f"sums that protect each {first}, and the request protects each {then}: no eps"):
        ledger.spend("b", Noise(2.0), "two", 1, unit=then)
    assert ledger.spend("a", Noise(2.0), "one", 1, unit=first) == [Noise(2.0)] == ledger.sums()
    assert len(ledger.spend("b", Noise(2.0), "two", 1, unit=first)) == 2
    ledger.path.write_text(ledger.path.read_text() + '{"sum": "c", "sigma": 2.0, "unit": "scene"}\n')
    with pytest.raises(FedpolypError, match="line 3 of .* is damaged"):
        ledger.sums()


@pytest.mark.parametrize("none", [Noise(0.0), Noise(float("nan")), Noise(2.0, 0.0)])
def test_a_sum_without_noise_has_no_line_which_would_spoil_the_ledger(none: Noise, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    for limit in (None, Limit(8.0, 1e-3)):
        with pytest.raises(ValueError, match="a sum needs noise before it leaves"):
            ledger.spend("a", none, "one", 1, limit)
    assert ledger.sums() == []


def test_a_line_says_with_which_probability_units_were_drawn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    ledger.spend("a", Noise(2.0), "one", 1)
    assert ledger.spend("b", Noise(1.5, 0.25), "two", 1) == [Noise(2.0), Noise(1.5, 0.25)] == ledger.sums()
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert "rate" not in lines[0] and (lines[1]["sigma"], lines[1]["rate"]) == (1.5, 0.25)


def test_sums_of_both_kinds_count_together_against_the_limit(tmp_path: Path) -> None:
    ledger, limit = Ledger(tmp_path / "privacy.jsonl"), Limit(8.0, 1e-3)
    whole, drawn = Noise(sigma_for(6.0, 1e-3, 2)), Noise(0.8, 0.25)
    for number in range(2):
        ledger.spend(f"whole {number}", whole, "one", number + 1, limit)
    accepted = 0
    while epsilon_of_all([whole] * 2 + [drawn] * (accepted + 1), 1e-3) <= 8:
        ledger.spend(f"drawn {accepted}", drawn, "two", accepted + 1, limit)
        accepted += 1
    assert accepted > 1 and epsilon_of_all([drawn] * (accepted + 1), 1e-3) < 8  # neither kind alone is beyond it
    with pytest.raises(Refusal, match=r"with this request it would be [89]\.\d\d$"):
        ledger.spend("one more", drawn, "two", accepted + 1, limit)
    assert ledger.sums() == [whole] * 2 + [drawn] * accepted


@pytest.mark.parametrize(
    "last",
    [
        '{"sum": "b", "sigma": 1.0, "rate": 0.0}\n',
        '{"sum": "b", "sigma": 1.0, "rate": 1.5}\n',
        '{"sum": "b", "sigma": 1.0, "rate": null}\n',
        '{"sum": "b"',
        "{}\n",
        '{"sum": "b", "sigma": 0.0}\n',
        '{"sum": "b", "sigma": null}\n',
        "[]\n",
        "[" * 9999,
    ],
)
def test_a_damaged_ledger_lets_nothing_out(last: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    ledger.spend("a", Noise(2.0), "run", 1)
    with ledger.path.open("a") as stream:
        stream.write(last)
    for digest in ("a", "c"):
        with pytest.raises(FedpolypError, match=r"line 2 of .*privacy\.jsonl is damaged"):
            ledger.spend(digest, Noise(2.0), "run", 2)


def test_half_a_line_that_a_full_disk_left_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, write = Ledger(tmp_path / "privacy.jsonl"), os.write
    ledger.spend("a", Noise(2.0), "run", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
        with pytest.raises(OSError, match="No space left"):
            ledger.spend("b", Noise(2.0), "run", 2)
    assert ledger.sums() == [Noise(2.0)]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Ledger(tmp_path / "privacy.jsonl").spend("a", Noise(2.0), "run", 1)
    assert not (tmp_path / "elsewhere").exists()
