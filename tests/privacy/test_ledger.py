"""The ledger: each sum once, over all runs, and none beyond the limit."""

import json
import os
from pathlib import Path

import pytest

from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.privacy.accounting import epsilon_of, mu_of, sigma_for
from fedpolyp.privacy.ledger import Ledger, Limit


def test_a_sum_that_is_counted_is_not_counted_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "private" / "privacy.jsonl")
    assert ledger.sigmas() == []
    assert ledger.spend("a" * 64, 2.0, "run", 1) == [2.0]
    assert ledger.spend("a" * 64, 2.0, "run", 1) == [2.0]
    assert ledger.spend("b" * 64, 3.0, "run", 2) == [2.0, 3.0] == ledger.sigmas()
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [(line["run"], line["round"], line["sigma"]) for line in lines] == [("run", 1, 2.0), ("run", 2, 3.0)]


def test_what_goes_beyond_the_limit_is_refused_and_not_counted_in_a_second_run_neither(tmp_path: Path) -> None:
    ledger, limit = Ledger(tmp_path / "privacy.jsonl"), Limit(8.0, 1e-3)
    sigma = sigma_for(8.0, 1e-3, 3)
    for number in range(3):  # a plan for all of it is allowed to its end
        ledger.spend(f"{number}", sigma, "one", number + 1, limit)
    for run in ("one", "another"):
        with pytest.raises(Refusal, match=r"epsilon 8 at delta 0\.001 in all runs together; .* it would be 9\.69"):
            ledger.spend("3", sigma, run, 4, limit)
    assert ledger.sigmas() == [sigma] * 3
    assert ledger.spend("2", sigma, "one", 3, limit) == [sigma] * 3  # which has left already
    assert epsilon_of(mu_of([sigma] * 4), 1e-3) == pytest.approx(9.69, abs=0.005)


@pytest.mark.parametrize(
    "last", ['{"sum": "b"', "{}\n", '{"sum": "b", "sigma": 0.0}\n', '{"sum": "b", "sigma": null}\n', "[]\n", "[" * 9999]
)
def test_a_damaged_ledger_lets_nothing_out(last: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.jsonl")
    ledger.spend("a", 2.0, "run", 1)
    with ledger.path.open("a") as stream:
        stream.write(last)
    for digest in ("a", "c"):
        with pytest.raises(FedpolypError, match=r"line 2 of .*privacy\.jsonl is damaged"):
            ledger.spend(digest, 2.0, "run", 2)


def test_half_a_line_that_a_full_disk_left_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, write = Ledger(tmp_path / "privacy.jsonl"), os.write
    ledger.spend("a", 2.0, "run", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
        with pytest.raises(OSError, match="No space left"):
            ledger.spend("b", 2.0, "run", 2)
    assert ledger.sigmas() == [2.0]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Ledger(tmp_path / "privacy.jsonl").spend("a", 2.0, "run", 1)
    assert not (tmp_path / "elsewhere").exists()
