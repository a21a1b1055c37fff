"""A run of version 0.1 is refused in one sentence by every command that reads a run."""

import re
from pathlib import Path

import pytest

from fedpolyp import __version__, runs
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs import OlderRun, RunFolder
from fedpolyp.sites.folders import make_federation
from tests.command import exit_code
from tests.tiny import tiny_config

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})
OLD = 'seed = 0\narm = "{arm}"\n[federation]\nstrategy = "fedavg"\nrounds = 3\nproximal_mu = 0.01\n'


def older(folder: Path, text: str = OLD) -> RunFolder:
    """A run as version 0.1 left it."""
    run = runs.create(folder, tiny_config(), PARTITION)
    run.config_file.write_text(text.format(arm="federated"))
    return run


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, *arguments)


@pytest.mark.parametrize(
    "command",
    [
        "simulate --resume {run}",
        "simulate --resume {run} --from-round 0",
        "report {run}",
        "report {comparison}",
        "runs show {run}",
        "runs export {run} summary.json",
        "compare --out {comparison} --phantom-images 40",
        "site run --folder {coordinator} --resume {run}",
    ],
)
def test_every_command_that_reads_a_run_refuses_one_of_version_0_1_and_changes_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison, deploy = tmp_path / "c", tmp_path / "deploy"
    run = older(comparison / "fedavg" / "0")
    make_federation(deploy, "localhost", 9092, ["oslo"], make_keys=False)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    names = {"run": run.path, "comparison": comparison, "coordinator": deploy / "coordinator"}
    assert called(monkeypatch, *(part.format(**names) for part in command.split())) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"fedpolyp: {run.path} was made by version 0.1 of fedpolyp, and this version ({__version__}) does not read "
        "its runs; use fedpolyp 0.1\n"
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_list_of_runs_says_which_are_of_version_0_1_and_shows_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    older(tmp_path / "old")
    runs.create(tmp_path / "new", tiny_config(), PARTITION)
    assert called(monkeypatch, "runs", "--root", str(tmp_path)) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert re.search("old +- +of version 0.1 ", listed["old"]) and "unfinished" in listed["new"]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('arm = "pooled"\n', True),
        ('[federation]\nstrategy = "fedprox"\n', True),
        ("seed = 3\n[federation]\nrounds = 4\n", False),
        ("[algorithm]\nname = 'pooled'\n", False),
    ],
)
def test_a_run_is_of_version_0_1_when_its_config_says_what_only_that_version_wrote(
    text: str, refused: bool, tmp_path: Path
) -> None:
    run = older(tmp_path / "run", text)
    if refused:
        for read in (run.config, lambda: runs.find(str(run.path))):
            with pytest.raises(OlderRun, match="was made by version 0.1 of fedpolyp"):
                read()
    else:
        assert run.config() and runs.find(str(run.path)) == run
