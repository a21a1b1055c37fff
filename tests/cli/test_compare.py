"""`fedpolyp compare`, as a user starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedpolyp import checkpoints
from fedpolyp.model.arrays import Arrays
from fedpolyp.runs import RunFolder
from tests.command import exit_code
from tests.same_bits import equal
from tests.tiny import tiny_config, tiny_run

ROOT = Path(__file__).parents[2]
TINY = (
    "--image-size 32 --phantom-images 40 --hospitals 3 --base-filters 4 --batch-size 4 --optimizer adam "
    "--learning-rate 0.01"
).split()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedpolyp", "compare", *TINY, *arguments]


def compare(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(command(*arguments), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def weights(run: Path, round: int) -> Arrays:
    folder = RunFolder(run)
    return checkpoints.load(folder.checkpoints, round, folder.fingerprint()).state["model"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a comparison `c` of the three arms, and what the command printed; nobody changes it."""
    folder = tmp_path_factory.mktemp("compared")
    done = compare("--actors", "1", "--rounds", "1", "--out", "c", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_compare_trains_every_arm_and_writes_the_report(compared: tuple[Path, str]) -> None:
    folder, printed = compared
    for arm in ("pooled", "local", "fedavg"):
        assert RunFolder(folder / "c" / arm / "0").finished
        assert f"{arm}/0  round 1/1  held-out Dice" in printed
    page = (folder / "c" / "report.html").read_text()
    assert "FedAvg" in page and "--rounds 1 --out c" in page
    assert printed.rstrip().endswith("report: c/report.html")
    assert (folder / "c" / "command.txt").read_text().endswith("--rounds 1 --out c\n")


def test_given_again_it_trains_what_is_missing_names_a_run_that_fails_and_keeps_the_rest(
    tmp_path: Path, compared: tuple[Path, str]
) -> None:
    shutil.copytree(compared[0] / "c", tmp_path / "c")
    kept = tmp_path / "c" / "fedavg" / "0" / "rounds.jsonl"
    before = kept.stat().st_mtime_ns
    (tmp_path / "c" / "local" / "0" / "curves.png").unlink()
    for checkpoint in (tmp_path / "c" / "local" / "0" / "checkpoints").iterdir():
        checkpoint.write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "c" / "pooled" / "0")
    done = compare("--rounds", "1", "--out", "c", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 of 3 runs are finished already" in done.stdout
    assert "1 of 3 runs failed" in done.stderr and "local/0: no checkpoint in" in done.stderr
    assert done.stderr.count("\n") == 1
    assert RunFolder(tmp_path / "c" / "pooled" / "0").finished and "pooled/0  round 1/1" in done.stdout
    assert kept.stat().st_mtime_ns == before and "fedavg/0  round 1/1" not in done.stdout


@pytest.mark.slow
def test_two_values_of_a_setting_are_two_arms_beside_the_named_ones(tmp_path: Path) -> None:
    near, far = "near: algorithm=fedprox mu=0.001", "far: algorithm=fedprox mu=1 training.local_epochs=2"
    done = compare("--rounds", "1", "--arms", "fedavg", "--arm", near, "--arm", far, "--out", "c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {label: RunFolder(tmp_path / "c" / label / "0") for label in ("fedavg", "near", "far")}
    assert all(run.finished for run in found.values())
    configs = {label: run.config() for label, run in found.items()}
    assert [configs[label].algorithm.model_dump() for label in found] == [
        {"name": "fedavg"},
        {"name": "fedprox", "mu": 0.001},
        {"name": "fedprox", "mu": 1.0},
    ]
    assert [config.training.local_epochs for config in configs.values()] == [1, 1, 2]
    assert found["near"].images_file.read_text().splitlines()[1].startswith("near,0,last,1,")
    page = (tmp_path / "c" / "report.html").read_text()
    assert "near is FedProx with mu 0.001" in page and "far is FedProx with mu 1.0" in page
    assert "training.local_epochs is 1 in fedavg/0, but 2 in far/0" in page


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "c" / "command.txt").mkdir(parents=True)
    done = compare("--rounds", "1", "--arms", "pooled", "--out", "c", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "fedpolyp: c/command.txt: Is a directory\n")


@pytest.mark.parametrize("out", ["run", "run/checkpoints", "run/new/deeper"])
def test_a_comparison_in_the_folder_of_a_run_is_refused(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run", tiny_config())
    before = sorted(run.path.rglob("*"))
    assert exit_code(monkeypatch, "compare", *TINY, "--out", str(tmp_path / out)) == 2
    assert f"{run.path} is the folder of a single run" in capsys.readouterr().err
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.slow
def test_a_killed_compare_leaves_nobody_at_work_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    arguments = ["--rounds", "6", "--local-epochs", "4", "--out", "c"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert compare(*arguments, cwd=whole).returncode == 0
    for arm in ("local", "fedavg"):  # what is waited for before the kill
        process = subprocess.Popen(
            command(*arguments),
            cwd=broken,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        rounds = broken / "c" / arm / "0" / "rounds.jsonl"
        while not (rounds.exists() and rounds.read_text().count("\n") >= 3):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 120
        while at_work(broken) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert at_work(broken) == []
    done = compare(*arguments, cwd=broken)
    assert done.returncode == 0, done.stderr
    for arm in ("pooled", "fedavg"):
        assert equal(weights(whole / "c" / arm / "0", 6), weights(broken / "c" / arm / "0", 6))


def at_work(folder: Path) -> list[int]:
    """The processes whose working directory is `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert exit_code(monkeypatch, "compare", *TINY, *arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "inside", [["images/a.png", "masks/a.png"], ["images/a.png", "masks/a.png", "command.txt"], ["x"]]
)
def test_a_comparison_in_a_folder_of_something_else_is_refused(
    inside: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in inside:
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).touch()
    before = sorted(tmp_path.rglob("*"))
    said = refused(monkeypatch, capsys, "--out", str(tmp_path / "c"))
    assert "holds something other than a comparison; choose another --out" in said
    assert "is a file; --out must be" in refused(monkeypatch, capsys, "--out", str(tmp_path / "c" / inside[0]))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arms", "pooled,central"], "--arms takes any of pooled, local, fedavg, "),
        (["--arms", "fedavg", "--arm", "fedavg: algorithm=fedprox"], "two arms are called 'fedavg'"),
        (["--arm", "x: algorithm=fedprox mu=many"], "the arm x: algorithm.mu must be a valid number; got 'many'"),
        (["--arms", "", "--out", "elsewhere"], "--arms takes any of .*; got nothing"),
        (["--strategies", "fedavg"], "No such option.*--strategies"),
    ],
)
def test_arms_that_cannot_be_are_refused_before_anything_is_made(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(said, " ".join(refused(monkeypatch, capsys, "--out", "c", *options).split()))
    assert list(tmp_path.iterdir()) == []


def test_a_ray_for_arms_that_use_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--out", str(tmp_path / "c"), "--arms", "pooled,local", "--ray-address", "10.0.0.1:6379")
    assert "--ray-address is for federated arms only, and there is none" in refused(monkeypatch, capsys, *options)
