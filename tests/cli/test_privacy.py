"""`fedpolyp privacy`, as it is typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import exit_code
from tests.tiny import carry_here, tiny_config, tiny_run


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, "privacy", *arguments)


PLAN = ("plan", "--images", "140", "--rounds", "40", "--epsilon", "8")


def test_a_plan_tells_noise_cost_and_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *PLAN, "--hospitals", "5", "--unit", "image") == 0
    said = capsys.readouterr().out
    assert "epsilon 8 at delta 0.001 (1/units is 0.0071" in said
    assert "noise: sigma 3.04" in said
    assert "2.17% of the clip" in said and "0.97% on the mean of 5 hospitals" in said
    assert "two images that show the same scene have epsilon 20.8 together" in said
    assert [line.split()[0] for line in said.splitlines() if "%)" in line] == ["10", "20", "40", "80", "160"]


def test_a_plan_of_joint_noise_tells_each_hospitals_share_and_what_is_left_on_the_mean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *PLAN, "--hospitals", "5", "--mode", "joint", "--secure-least", "5") == 0
    said = capsys.readouterr().out
    assert "noise: sigma 3.04" in said  # the promise takes as much, whoever makes it
    assert "joint: each hospital adds 1.52 to its own sum, and 4 of them make the noise of a sum of hospitals" in said
    assert "0.48% on the mean of 5 hospitals" in said and "3.04 (0.48%)" in said


def test_a_plan_tells_what_the_noise_of_a_score_is_and_what_it_adds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *PLAN, "--score-epsilon", "2", "--test-images", "20") == 0
    assert (
        "score: mean Dice of 20 groups of near-duplicates ± 0.07 (95 % interval of the noise alone, each hospital's "
        "own); with it epsilon 8.57 in all" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "more",
    [
        ("--batches", "poisson"),
        ("--batch", "32"),
        ("--delta", "0.5"),
        ("--score-epsilon", "2"),
        ("--score-epsilon", "-2", "--test-images", "20"),
        ("--rounds", "0"),
        ("--mode", "joint"),  # of one hospital
        ("--mode", "joint", "--hospitals", "5", "--colluders", "2"),
        ("--mode", "joint", "--hospitals", "5", "--batches", "poisson", "--batch", "32"),  # no run has this
    ],
)
def test_what_goes_not_together_is_a_usage_error(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *PLAN, *more) == 2
    assert len(capsys.readouterr().out) == 0


def test_a_plan_loads_no_tensorflow() -> None:
    script = f"""
import sys
from fedpolyp import cli
sys.argv = {["fedpolyp", "privacy", *PLAN]}
try:
    cli.main()
except SystemExit as end:
    assert not end.code
print(sorted({{"tensorflow", "keras", "ray", "flwr"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.slow
def test_a_private_simulation_ends_with_each_hospitals_noisy_score(tmp_path: Path) -> None:
    private = "--privacy local --algorithm fedadam --normalization group --score-epsilon 4 --secure-sums"
    small = "--phantom-images 60 --image-size 32 --base-filters 4 --hospitals 3 --rounds 1 --out run"
    command = [sys.executable, "-m", "fedpolyp", "simulate", *private.split(), *small.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "then one noisy test score of each hospital, with epsilon 4 more" in said
    assert (
        "Privacy: epsilon 9.72 at delta 0.001 for each group of near-duplicates among a hospital's training and" in said
    )
    score = r"[01]\.\d\d ± \d\.\d\d"
    assert re.search(rf"with noise: hospital-1 {score}, hospital-2 {score}, hospital-3 {score}\. ± is the 95 %", said)
    for number in (1, 2, 3):
        ledger = (tmp_path / "run" / "state" / f"hospital-{number}" / "privacy.jsonl").read_text().splitlines()
        assert [json.loads(line).get("what") for line in ledger] == [None, "score"]


def test_an_attack_prints_a_row_for_each_target_and_writes_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tiny_config(federation__rounds=1)
    folder = tiny_run(tmp_path / "run", config)
    carry_here(folder, config)
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "attack.json"
    assert run(monkeypatch, "attack", str(folder.path)) == 2
    assert "is not finished" in capsys.readouterr().err
    folder.curves.touch()
    page = tmp_path / "attack.html"
    written = ("--out", str(out), "--html", str(page), "--pictures", "0")
    assert run(monkeypatch, "attack", str(folder.path), *written) == 0
    said = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["run"] == "run" and found["left_out"] == []
    targets = [row["target"] for row in found["attacks"]]
    assert targets[0] == "model" and "update of hospital-3" in targets and targets[-1] == "sum of updates"
    assert all(row["low"] <= row["auc"] <= row["high"] for row in found["attacks"])
    assert all(target in said for target in targets)
    assert f"page: {page}\n" in said and all(target in page.read_text() for target in targets)
    for option, file in (("--out", out), ("--html", page)):
        assert run(monkeypatch, "attack", str(folder.path), option, str(file)) == 2
        assert f"{option} must be a new file; {file} already exists" in " ".join(capsys.readouterr().err.split())
