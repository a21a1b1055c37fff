"""`flwr run .`: the same apps, started by Flower's own command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp.config import to_toml
from fedpolyp.runs import RunFolder
from tests.tiny import federate, final, same_state, tiny_config, tiny_run

ROOT = Path(__file__).parents[1]
# Flower's command, which gives its SuperLink 15 s to start, whatever else the machine does.
FLWR = (
    "import sys; from flwr.cli import local_superlink as local; local.LOCAL_SUPERLINK_STARTUP_TIMEOUT = 600.0; "
    "from flwr.cli.app import app; sys.argv[0] = 'flwr'; app()"
)


def superlinks(home: Path) -> list[int]:
    """The local SuperLinks that were started with `home` as Flower's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"FLWR_HOME={home}".encode() in (entry / "environ").read_bytes()
            if ours and b"flower-superlink" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_flwr_run_gives_the_bits_of_the_serial_grid(tmp_path: Path) -> None:
    config, home, out = tiny_config(federation__rounds=2), tmp_path / "flwr", tmp_path / "out"
    (tmp_path / "experiment.toml").write_text(to_toml(tiny_config()))
    settings = f'config="{tmp_path}/experiment.toml" out="{out}" overrides="federation.rounds=2"'
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    try:
        said = subprocess.run(
            [sys.executable, "-c", FLWR, "run", str(ROOT), "--stream", "--run-config", settings],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        run = RunFolder(out)  # the exit code says nothing: Flower's command ends with 0 whatever happened
        assert [record["round"] for record in run.rounds()] == [0, 1, 2], said.stdout + said.stderr
    finally:
        for process in superlinks(home):
            os.kill(process, signal.SIGTERM)
    serial = tiny_run(tmp_path / "serial", config)
    federate(serial, config)
    assert same_state(final(run, config), final(serial, config))
