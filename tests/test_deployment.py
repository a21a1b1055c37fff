"""The whole deployment with real processes: the demo script, held against a simulation of the same deal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp import runs
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.source import open_source
from fedpolyp.model.arrays import equal
from fedpolyp.runs import RunFolder
from fedpolyp.sites import audit
from fedpolyp.sites.images import images_of
from fedpolyp.sites.settings import SiteSettings
from tests.tiny import federate, final

ROOT = Path(__file__).parents[1]
SITES = ("oslo", "bergen", "tromso")


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that name `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and entry.parent.name != str(os.getpid()):
            found.append(command)
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx")
def test_a_deployment_gives_the_bits_of_its_simulation_and_leaves_no_process(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    command = [sys.executable, str(ROOT / "scripts" / "deploy_demo.py"), "--images", "20", "--rounds", "2"]
    said = subprocess.run(
        [*command, "--out", str(demo)], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert processes_of(demo) == []
    for site in SITES:
        entries = list(audit.read(demo / "deploy" / site / "audit.jsonl"))
        assert entries and not any(entry.fault for entry in entries)

    (folder,) = (demo / "deploy" / "coordinator" / "runs").iterdir()
    real = RunFolder(folder)
    for party in (*SITES, "held-out"):
        shutil.copytree(demo / "images" / party, tmp_path / "all", dirs_exist_ok=True)
    config = real.config()
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": str(tmp_path / "all")})})
    deals = {}
    for site in SITES:
        settings = SiteSettings.load(demo / "deploy" / site / "site.toml", str(demo / "images" / site))
        deals[site] = images_of(settings, config.data.image_size)[1]
    store = open_source(config.data, config.data_seed)
    simulated = runs.create(tmp_path / "simulated", config, Partition(real.partition().heldout, deals), store.path)
    federate(simulated, config)
    here, there = final(real, real.config()), final(simulated, config)
    assert equal(here.arrays, there.arrays) and equal(here.strategy, there.strategy)
