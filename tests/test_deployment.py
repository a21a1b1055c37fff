"""The whole deployment with real processes: the demo script, held against a simulation on the same partition."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp.runs import RunFolder
from fedpolyp.sites import audit
from scripts.deploy_demo import SETTINGS
from tests.deployed import processes_of, simulation_of, wait_until
from tests.tiny import final, same_state

ROOT = Path(__file__).parents[1]
SITES = ("oslo", "bergen", "tromso")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fedbn"])
def test_a_deployment_gives_the_bits_of_its_simulation_and_leaves_no_process(tmp_path: Path, algorithm: str) -> None:
    demo = tmp_path / "demo"
    command = [sys.executable, str(ROOT / "scripts" / "deploy_demo.py"), "--images", "20", "--rounds", "2"]
    evaluates = algorithm == "fedavg"
    command += ["--out", str(demo), *(["--evaluate"] if evaluates else []), "--", *SETTINGS, f"--algorithm={algorithm}"]
    demo.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=demo, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line.decode(errors="replace")
            if line.startswith(b"held-out Dice"):  # the run is over, and everybody still there
                running = " ".join(processes_of(demo))
    assert process.returncode == 0, said
    supernode = ("fedpolyp.cli.supernode", "fedpolyp.cli.executor", "clients.worker")
    for program in ("nginx: worker", "fedpolyp.cli.superlink", "flower-superexec", *supernode):
        assert program in running
    assert processes_of(demo) == []
    for site in SITES:
        entries = list(audit.read(demo / "deploy" / site / "private" / "audit.jsonl"))
        assert entries and not any(entry.fault for entry in entries)

    (folder,) = (demo / "deploy" / "coordinator" / "runs").iterdir()
    real = RunFolder(folder)
    assert real.config().algorithm.name == algorithm
    images = {site: demo / "images" / site for site in SITES}
    simulated = simulation_of(real, demo / "deploy", images, demo / "images" / "held-out", tmp_path)
    here, there = final(real, real.config()), final(simulated, simulated.config())
    assert same_state(here, there)
    if evaluates:
        _sites_gave_the_model_the_scores_that_it_had(RunFolder(demo / "scored"), real)


def _sites_gave_the_model_the_scores_that_it_had(scored: RunFolder, trained: RunFolder) -> None:
    (record,), last = scored.rounds(), trained.rounds()[-1]
    own = {name: one["test_dice"] for name, one in record["hospitals"].items()}
    assert own == {name: one["test_dice"] for name, one in last["hospitals"].items()}
    assert record["val_dice"] == last["val_dice"] and record["steps"] == 0
    images = sum(one["test_images"] for one in record["hospitals"].values())
    weighed = sum(own[name] * one["test_images"] for name, one in record["hospitals"].items()) / images
    assert record["dice"] == pytest.approx(weighed)  # there is no held-out set


@pytest.mark.slow
def test_with_privacy_sites_add_noise_up_to_their_limit_and_refuse_another_run(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "deploy_demo.py"), "--privacy", "--images", "20"]
    done = subprocess.run(
        [*command, "--rounds", "2", "--out", "demo"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "Privacy: epsilon 8.00 at delta 0.001" in done.stdout
    assert "0 of 3 hospitals sent usable replies" in done.stdout and "spends at most epsilon 8" in done.stdout
    for site in SITES:
        ledger = (tmp_path / "demo" / "deploy" / site / "private" / "privacy.jsonl").read_text().splitlines()
        assert len(ledger) == 2
    assert processes_of(tmp_path) == []


@pytest.mark.slow
def test_a_demo_that_is_told_to_end_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "deploy_demo.py"), "--images", "20", "--sites", "oslo"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w") as said:
        demo = subprocess.Popen(script, env=environment, stdout=said, stderr=said)
    wait_until(lambda: list(tmp_path.glob("deploy-demo-*/deploy/oslo/private/flower/*")), "the site has joined")
    demo.terminate()
    assert demo.wait() == 128 + signal.SIGTERM
    wait_until(lambda: processes_of(tmp_path) == [], "all has ended")
    assert not list(tmp_path.glob("deploy-demo-*"))
