"""What this project changes in Flower's own programs at a site: each hook into their private parts is held here."""

import importlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedpolyp.cli import executor, supernode
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.settings import SiteSettings


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """A site's settings, in whose folder this process is as its SuperNode would be."""
    make_federation(tmp_path / "deploy", "localhost", 9443, ["oslo"])
    settings = SiteSettings.load(tmp_path / "deploy" / "oslo" / "site.toml")
    settings.flower.mkdir()
    monkeypatch.chdir(settings.folder)
    return settings


def test_the_supernode_shows_the_sites_certificate(site: SiteSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = site.folder.parent / "coordinator"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(coordinator / "server.crt", coordinator / "server.key")
    context.load_verify_locations(cafile=coordinator / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    shown: list[Any] = []
    monkeypatch.setattr(FleetHttpClient, "from_server_address", FleetHttpClient.from_server_address)
    supernode.show_certificate(site)
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer() -> None:
            with context.wrap_socket(door.accept()[0], server_side=True) as caller:
                shown.append(caller.getpeercert())
                caller.recv(65536)
                caller.sendall(b"HTTP/1.1 418 no\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        client = FleetHttpClient.from_server_address(f"localhost:{door.getsockname()[1]}", False, None, interceptors=[])
        with client, pytest.raises(httpx.HTTPStatusError):
            client.ActivateNode(ActivateNodeRequest())
        thread.join()
    assert shown[0]["subject"] == ((("commonName", "oslo"),),)


def test_only_the_executor_that_knows_the_secret_takes_orders(
    site: SiteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    flower: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")
    started: list[Any] = []
    given: dict[str, Any] = {}

    def played() -> None:
        config = flower._parse_supernode_lifespan_config()
        given.update(vars(config))
        flower.start_client_internal(runtime_api_address="127.0.0.1:1", isolation=config.isolation)

    monkeypatch.setattr(flower, "flower_supernode", played)
    monkeypatch.setattr(flower, "start_client_internal", lambda **options: started.append(options))
    monkeypatch.setattr(supernode, "show_certificate", lambda settings: None)
    monkeypatch.setattr(supernode, "executor", lambda *arguments: started.append(arguments))
    options = ["--superlink=localhost:9443", f"--root-certificates={site.authority}", "--host=127.0.0.1", "--port=1"]
    key = f"--auth-supernode-private-key={site.key}"
    monkeypatch.setattr(sys, "argv", ["supernode", str(site.folder), *options, key])
    supernode.main()
    folder = Path("private/flower/runtime")
    assert started == [
        ("127.0.0.1:1", folder / "ca.crt", folder / "secret"),
        {"runtime_api_address": "127.0.0.1:1", "isolation": "process"},
    ]
    assert (
        given["superexec_auth_secret"] == (folder / "secret").read_bytes() and len(given["superexec_auth_secret"]) == 32
    )
    assert given["runtime_ssl_certfile"] == str(folder / "server.crt")
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = (folder / "secret").read_bytes()
    supernode.between(site)  # each start has its own
    assert (folder / "secret").read_bytes() != before


def test_an_orders_token_is_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "flwr-clientapp"
    said = tmp_path / "said"
    program.write_text(
        f"#!{sys.executable}\nimport sys, json, pathlib\nfrom flwr.supernode.cli import flwr_clientapp\n"
        "from flwr.common.args import try_obtain_flwr_app_token\n"
        "import importlib\nread = importlib.import_module('flwr.supernode.cli.flwr_clientapp')\n"
        "arguments = read._parse_args_run_flwr_clientapp().parse_args()\n"
        f"pathlib.Path({str(said)!r}).write_text(json.dumps([sys.argv[1:], try_obtain_flwr_app_token(arguments)]))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    processes: list[Any] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)))
    spec = ExecutionSpec(
        task_type=TaskType.CLIENT_APP,
        runtime_api_address="127.0.0.1:1",
        token="f00d" * 8,
        insecure=False,
        root_certificates_path="ca.crt",
        runtime_dependency_install=False,
        parent_pid=os.getpid(),
        suppress_output=False,
        task_id=1,
    )
    executor.launch(SubprocessExecutor(), spec)
    assert processes[0].wait() == 0
    command, token = json.loads(said.read_text())
    assert token == spec.token and spec.token not in " ".join(command) and "--insecure" not in command


def test_the_executor_takes_orders_for_a_client_app_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = importlib.import_module("flwr.supercore.cli.flower_superexec")
    asked: list[Any] = []
    for name in ("launch", "get_eligible_capacity"):
        monkeypatch.setattr(SubprocessExecutor, name, getattr(SubprocessExecutor, name))
    play = lambda: asked.append(SubprocessExecutor().get_eligible_capacity(set(TaskType)))  # noqa: E731
    monkeypatch.setattr(module, "flower_superexec", play)
    executor.main()
    assert asked == [({TaskType.CLIENT_APP}, set())]
    assert SubprocessExecutor.launch is executor.launch
