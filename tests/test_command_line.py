"""The whole program, as a user starts it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.runs import RunFolder
from tests.same_bits import equal
from tests.tiny import federate, final, tiny_run

ROOT = Path(__file__).parents[1]
FEDPOLYP = [sys.executable, "-m", "fedpolyp"]
TINY = (
    "--image-size 32 --phantom-images 40 --hospitals 3 --base-filters 4 "
    "--batch-size 4 --optimizer adam --learning-rate 0.01"
).split()
SMALL = ["simulate", *TINY]


def fedpolyp(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(
        [*FEDPOLYP, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def test_simulate_trains_prints_the_table_and_leaves_the_run_folder(tmp_path: Path) -> None:
    done = fedpolyp("simulate", *TINY, "--actors", "1", "--rounds", "1", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "round 1/1" in done.stdout and "each hospital" in done.stdout
    assert done.stdout.endswith("run folder: run\n")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left >= {"config.toml", "environment.json", "partition.json", "rounds.jsonl", "images.csv"}
    assert left >= {"model-last.keras", "model-best.keras", "predictions.png", "curves.png", "checkpoints"}
    again = fedpolyp("simulate", *TINY, "--out", "run", cwd=tmp_path)
    assert again.returncode == 2 and "run already exists" in again.stderr


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert fedpolyp("--version", cwd=tmp_path).stdout == f"fedpolyp {version('fedpolyp')}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["simulate", "--rounds", "-1"], 2, "federation.rounds must be greater than or equal to 0; got -1"),
        (["simulate", "--image-size", "100"], 2, "data.image_size must be a multiple of 16; got 100"),
        (["simulate", "--preset", "huge"], 2, "preset must be one of paper, seed, pretrained; got 'huge'"),
        (["simulate", "--config", "missing.toml"], 2, "cannot read the config file missing.toml"),
        (["simulate", "--data", "nowhere"], 2, "nowhere"),
        (["simulate", "--hospitals", "500", "--phantom-images", "40", "--image-size", "32"], 2, "500"),
        ([*SMALL, "--gpus-per-client", "0.5"], 2, "--gpus-per-client 0.5 needs a GPU"),
        ([*SMALL, "--ray-address", "127.0.0.1:1"], 2, "no Ray cluster answers at '127.0.0.1:1'"),
        (["simulate", "--resume", "nothing"], 2, "there is no run 'nothing'"),
        (["simulate", "--resume", "x", "--out", "y"], 2, "--out cannot be given"),
        (["runs", "show", "nothing"], 2, "there is no run 'nothing'"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    done = fedpolyp(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_option_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("[training]\nbatch_size = 5\nloss = 'bce+dice'\n")
    done = fedpolyp(
        "config",
        "--preset",
        "seed",
        "--config",
        "experiment.toml",
        "--batch-size",
        "7",
        "--data",
        "images",
        cwd=tmp_path,
    )
    (tmp_path / "effective.toml").write_text(done.stdout)
    config = load(tmp_path / "effective.toml")
    assert (config.training.batch_size, config.training.loss) == (7, "bce+dice")
    assert (config.model.normalization, config.data.image_size) == ("none", 256)
    assert config.data.source == str(tmp_path / "images")


def test_help_and_mistakes_import_neither_tensorflow_nor_ray_nor_matplotlib(tmp_path: Path) -> None:
    script = (
        "import sys; from fedpolyp.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'tensorflow', 'keras', 'ray', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["simulate", "--help"], ["simulate", "--rounds", "-1"], ["config"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments


@pytest.mark.real
def test_simulate_on_forty_real_images(tmp_path: Path, kvasir: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for path in sorted((kvasir / part).iterdir())[:40]:
            shutil.copy(path, tmp_path / "data" / part)
    (tmp_path / "data" / "images" / "alone.jpg").write_bytes(b"not an image")
    arguments = "simulate --data data --hospitals 2 --rounds 1 --image-size 32 --base-filters 4 --out run".split()
    done = fedpolyp(*arguments, "--actors", "1", "--optimizer", "adam", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 pairs, 1 left out" in done.stdout
    run = RunFolder(tmp_path / "run")
    assert [record["round"] for record in run.rounds()] == [0, 1]
    shown = fedpolyp("runs", "show", "run", cwd=tmp_path)
    assert shown.returncode == 0 and f"held-out Dice {run.rounds()[-1]['dice']:.3f}" in shown.stdout


@pytest.mark.slow
def test_killed_twice_and_resumed_it_ends_in_the_bits_of_a_run_never_killed(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    rng = random.Random(5)
    command = [*FEDPOLYP, "simulate", *TINY, "--local-epochs", "4", "--rounds", "8", "--out", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = RunFolder(tmp_path / "run")
    for kill in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 300  # Ray's agents look for their killed parent now and then
        while len(run.rounds()) < 2 + 3 * kill and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        command = [*FEDPOLYP, "simulate", "--resume", "run"]
    resumed = fedpolyp("simulate", "--resume", "run", "--actors", "1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after round" in resumed.stdout
    config = run.config()
    whole = tiny_run(tmp_path / "whole", config)
    federate(whole, config)
    assert equal(final(run, config).state["model"], final(whole, config).state["model"])
    assert run.images_file.read_text() == whole.images_file.read_text()
    deadline = time.monotonic() + 120
    while ray_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ray_processes() == {}


@pytest.mark.slow
def test_the_quickstarts_federation_reaches_seventy_percent_dice(tmp_path: Path) -> None:
    config = load(ROOT / "scripts" / "quickstart.toml")
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    dices = [record["dice"] for record in run.rounds()]
    assert dices[-1] >= 0.70
    assert dices[-1] > dices[1] + 0.2
