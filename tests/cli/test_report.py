import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import exit_code
from tests.fake_comparison import write_comparison


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder, ("pooled", "fedavg"))
    return folder


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("COLUMNS", "120")
    return exit_code(monkeypatch, "report", *arguments)


def test_a_comparison_is_reported_in_its_own_folder(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, str(made)) == 0
    said = capsys.readouterr().out
    assert said.startswith("The FedAvg model trained here reaches a mean Dice of ")
    assert [line.split()[0] for line in said.splitlines() if " to 0." in line] == ["Pooled", "FedAvg"]
    assert "There is no finished local run." in said
    assert said.endswith(f"report: {made / 'report.html'}\n")
    assert "fedpolyp compare --out somewhere" in (made / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_runs_from_anywhere_are_reported_where_out_says(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    single = tmp_path / "single"
    shutil.copytree(made / "pooled" / "0", single)
    assert called(monkeypatch, str(single)) == 0
    assert (single / "report.html").exists()
    assert called(monkeypatch, str(single), str(made / "fedavg" / "0"), "--out", str(tmp_path / "both")) == 0
    assert "FedAvg minus Pooled" in (tmp_path / "both" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["{made}", "{made}/pooled/0"], 2, "--out must be given when the report is about more than one folder"),
        (["{made}", "{made}/pooled/0", "--out", "{tmp}"], 2, "are the same arm with the same seed"),
        (["{tmp}/nothing"], 2, "there is no run '{tmp}/nothing'"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    code: int,
    sentence: str,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"made": str(made), "tmp": str(tmp_path)}
    assert called(monkeypatch, *(argument.format(**names) for argument in arguments)) == code
    said = capsys.readouterr().err
    assert sentence.format(**names) in said and said.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_command_that_is_no_text_does_not_stop_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_comparison(tmp_path, ("fedavg",))
    (tmp_path / "command.txt").write_bytes(b"\xff\xfe")
    assert called(monkeypatch, str(tmp_path)) == 0


@pytest.mark.usefixtures("undrawn")
def test_a_command_that_is_a_link_or_without_end_does_not_get_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_comparison(tmp_path / "made", ("fedavg",))
    command, page = tmp_path / "made" / "command.txt", tmp_path / "made" / "report.html"
    command.write_text("x" * 1_000_000)
    assert called(monkeypatch, str(tmp_path / "made")) == 0
    assert "x" * 10_000 in page.read_text() and "x" * 10_001 not in page.read_text()
    (tmp_path / "secret").write_text("a secret of the user's")
    command.unlink()
    command.symlink_to(tmp_path / "secret")
    assert called(monkeypatch, str(tmp_path / "made")) == 0
    assert "a secret" not in page.read_text()


def test_a_report_needs_no_tensorflow() -> None:
    code = "import sys, fedpolyp.report.comparison; print({'tensorflow', 'keras', 'ray', 'flwr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
