"""What is used of Ray and Flower that an upgrade may change; and that a Ray of ours is closed to others."""

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from fedpolyp.simulation import cluster, hooks
from tests import own_process
from tests.deployed import wait_until
from tests.hostile_folder import HOSTILE, executed, hostile_folder
from tests.test_command_line import ROOT
from tests.tiny import tiny_config

ATTACK = """
import os, sys, ray
from ray._private import ray_constants
ray_constants.ENABLE_RAY_CLUSTER = False  # else it would look for a Ray at this machine's other address
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print("RAN IN", ray.get(ray.remote(lambda: os.getpid()).remote(), timeout=240))
"""


PRIVATE = re.compile(r"ray\._|_internal_kv|flwr\.(supercore|supernode|superlink|proto|server\.superlink)\b")


def test_what_ray_and_flower_do_not_promise_to_keep_is_used_where_contributing_says() -> None:
    folders = ("fedpolyp", "clients", "server")
    using = {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in (ROOT / folder).rglob("*.py")
        if PRIVATE.search(file.read_text())
    }
    sites = {f"fedpolyp/cli/{name}.py" for name in ("executor", "flower", "superlink", "supernode")}
    assert using == sites | {"fedpolyp/simulation/hooks.py"}
    told = (ROOT / "CONTRIBUTING.md").read_text().split("private interfaces are used")[1]
    assert all(f"`{Path(file).name}`" in told or f"`{file}`" in told for file in using)


def asks_for_a_token() -> bool:
    raylet: Any = importlib.import_module("ray._raylet")
    return bool(raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN)


def test_ray_takes_this_machine_for_one_without_a_network() -> None:
    from ray._private import services

    with hooks.on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1"


def test_the_token_is_another_each_time_and_goes_with_its_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's own")
    tokens = set()
    for _ in range(2):
        with cluster._token():
            assert asks_for_a_token()
            tokens.add(os.environ["RAY_AUTH_TOKEN"])
    assert len(tokens) == 2 and all(len(token) == 64 for token in tokens)
    assert os.environ["RAY_AUTH_TOKEN"] == "the user's own" and not asks_for_a_token()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's working folder."""
    return hostile_folder(tmp_path / "own", *HOSTILE)


@pytest.fixture
def token(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The token of a Ray of ours, which runs."""
    if own_process.wanted(request.node):
        yield ""
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with cluster.begin(tiny_config(runtime__actors=2)) as started:
            started.wait()
            yield os.environ["RAY_AUTH_TOKEN"]


LEAVES = """
import subprocess, sys
from types import SimpleNamespace
from ray._private import worker
from fedpolyp.simulation import hooks
raylet = subprocess.Popen(["sh", "-c", "setsid sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
process = SimpleNamespace(process=raylet)
worker._global_node = SimpleNamespace(all_processes={"raylet": [process]})
theirs = int(raylet.stdout.readline())
hooks.kill_processes_afterwards()
print(raylet.pid, theirs, flush=True)
sys.stdin.readline()
print("it says why", flush=True)
%s
"""


@pytest.mark.parametrize("end", ["", "import os; os._exit(1)", "import os; os.abort()"], ids=["ends", "exits", "dies"])
def test_what_is_left_of_ray_is_killed_after_its_process_has_ended_and_not_before(end: str) -> None:
    command = [sys.executable, "-c", LEAVES % end]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        left = [Path(f"/proc/{number}") for number in process.stdout.readline().split()]
        time.sleep(0.5)  # in which it would kill them, did it not wait
        assert len(left) == 2 and all(entry.exists() for entry in left)
        said, _ = process.communicate("go on\n")
    assert said == "it says why\n"
    wait_until(lambda: not any(entry.exists() for entry in left), "all are gone")


@pytest.mark.own_process
@pytest.mark.slow
def test_a_ray_of_ours_listens_to_this_machine_alone_and_its_token_is_on_no_command_line(token: str) -> None:
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    processes = with_token(token)
    assert len(processes) >= 4  # this one, gcs_server, raylet, its agents
    addresses = []
    for process in processes:
        assert token.encode() not in (process / "cmdline").read_bytes()
        for descriptor in (process / "fd").iterdir():
            addresses += [
                listening[name] for name in [os.path.realpath(descriptor).split("/")[-1]] if name in listening
            ]
    assert len(addresses) >= 3
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    # Its sockets ask for no token: session_…/sockets/plasma_store lies in a folder behind a closed one.
    assert Path(ray._private.worker._global_node.plasma_store_socket_name).parents[3].stat().st_mode & 0o77 == 0


def with_token(token: str) -> list[Path]:
    """The processes in whose environment it is, and this one, into which it came later."""
    found = [Path("/proc/self")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (entry / "environ").read_bytes():
                found.append(entry)
        except OSError:
            continue
    return found


@pytest.mark.own_process
@pytest.mark.slow
def test_a_process_without_the_token_can_run_nothing(token: str) -> None:
    address = ray.get_runtime_context().gcs_address
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    stranger["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"
    for known in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        attack = subprocess.Popen(
            [sys.executable, "-c", ATTACK, address],
            env=stranger | known,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            out, _ = attack.communicate(timeout=45)
        except subprocess.TimeoutExpired:  # it tries again and again
            attack.kill()
            out, _ = attack.communicate()
        assert b"RAN IN" not in out
    insider = stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    ran = subprocess.run([sys.executable, "-c", ATTACK, address], env=insider, capture_output=True, timeout=300)
    assert b"RAN IN" in ran.stdout, ran.stderr.decode()


@pytest.mark.own_process
@pytest.mark.slow
def test_rays_workers_have_the_working_folder_nowhere_on_their_path(token: str, folder: Path) -> None:
    path = ray.get(ray.remote(num_cpus=0)(lambda: __import__("sys").path).remote())
    assert str(folder) not in path and "" not in path
    assert executed(folder) == []


@pytest.mark.own_process
@pytest.mark.slow
def test_flower_starts_the_actors_that_it_is_told_to_and_they_can_be_killed(token: str) -> None:
    backend: Any = importlib.import_module("flwr.server.superlink.fleet.vce.backend.raybackend")
    with hooks.pool_of(1) as handles:
        made = backend.RayBackend({"client_resources": {"num_cpus": 0.5, "num_gpus": 0.0}})
        made.build(lambda: None)
    assert made.num_workers == len(handles) == 1
    (actor,) = handles
    ray.kill(actor)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.run.remote(None, None, "", None), timeout=120)
    assert backend.BasicActorPool.__name__ == "BasicActorPool"


@pytest.mark.own_process
@pytest.mark.slow
def test_the_processes_that_ray_cannot_do_without_are_looked_after(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = ray._private.worker._global_node
    assert hooks.dead_process() == ""
    kinds = {str(kind): info[0].process for kind, info in node.all_processes.items()}
    for kind in ("gcs_server", "raylet"):
        monkeypatch.setattr(node, "dead_processes", lambda kind=kind: [(kind, kinds[kind])])
        assert hooks.dead_process() == kind


@pytest.mark.own_process
@pytest.mark.slow
def test_what_is_stored_in_ray_is_found_by_its_processes_until_it_is_removed(token: str) -> None:
    def look() -> bytes | None:
        return hooks.stored_in_ray("job:run")

    assert look() is None
    hooks.store_in_ray("job:run", b"the partition")
    assert look() == ray.get(ray.remote(num_cpus=0)(look).remote()) == b"the partition"
    hooks.remove_from_ray("job:run")
    assert look() is None and ray.get(ray.remote(num_cpus=0)(look).remote()) is None
    hooks.remove_from_ray("job:run")


def test_while_ray_starts_or_stops_processes_none_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = {"raylet": 1}

    class Changing:
        def dead_processes(self) -> list[tuple[str, int]]:
            return [(kind, processes.setdefault(f"{kind} again", number)) for kind, number in processes.items()]

    monkeypatch.setattr(ray._private.worker, "_global_node", Changing())
    with pytest.raises(RuntimeError, match="changed size"):
        Changing().dead_processes()
    assert hooks.dead_process() == ""
