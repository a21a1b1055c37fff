"""`fedpolyp privacy`, as it is typed."""

import subprocess
import sys

import pytest

from fedpolyp import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedpolyp", "privacy", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


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


@pytest.mark.parametrize("more", [("--batches", "poisson"), ("--batch", "32"), ("--delta", "0.5"), ("--rounds", "0")])
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
