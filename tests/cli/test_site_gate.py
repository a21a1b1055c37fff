"""What a hospital can reach of the coordinator: with the real SuperLink and the real nginx."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fedpolyp.cli import flower
from fedpolyp.errors import FedpolypError
from fedpolyp.sites.certificates import write_site_key
from fedpolyp.sites.connection import connect, faults_of
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings
from scripts.deploy_demo import free_port
from tests.cli.test_site import fedpolyp

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx"),
]


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A coordinator that serves, and the folders of its sites."""
    folder = tmp_path_factory.mktemp("gate") / "deploy"
    door, control = free_port(), free_port()
    make_federation(folder, "localhost", door, ["oslo", "mallory"])
    settings = folder / "coordinator" / "coordinator.toml"
    settings.write_text(settings.read_text().replace("control_port = 18080", f"control_port = {control}"))
    command = [sys.executable, "-m", "fedpolyp", "site", "serve", "--folder", str(folder / "coordinator")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "serve.log").open("wb") as log:
        serve = subprocess.Popen([*command, "--listen", "127.0.0.1"], stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 300
        while not (listens(door) and listens(control)):
            assert serve.poll() is None and time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.5)
        yield folder
    finally:
        serve.send_signal(signal.SIGTERM)
        serve.wait()
        assert not listens(door) and not listens(control)


def post(deploy: Path, path: str) -> tuple[int, bytes]:
    """The HTTP status and answer that a hospital gets which posts an empty request to `path`, spelled exactly so."""
    site = SiteSettings.load(deploy / "mallory" / "site.toml")
    host, _, port = site.coordinator.rpartition(":")
    trusted = ssl.create_default_context(cafile=str(site.authority))
    connection = http.client.HTTPSConnection(host, int(port), context=trusted, timeout=60)
    try:
        connection.request("POST", path, b"", {"Content-Type": "application/protobuf"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/register-node",
        "/v1/control/start-run",
        "/v1/runtime/push-messages",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "/v1/fleet/%252e%252e/control/start-run",
        "//v1//control//start-run",
        "/V1/CONTROL/start-run",
        "/v1/fleet",
        "/v1/fleet/",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_sites_reach_nothing_but_the_fleet_api(deploy: Path, path: str) -> None:
    status, answer = post(deploy, path)
    # The SuperLink, too, knows some of these paths not: that it was not even asked, only nginx's own page tells.
    assert status in (400, 404) and b"<center>nginx</center>" in answer


def test_a_request_without_a_sites_signature_is_refused(deploy: Path) -> None:
    status, answer = post(deploy, "/v1/fleet/pull-messages")
    assert status in (401, 403) and b"nginx" not in answer


def as_coordinator_through_the_door(deploy: Path) -> CoordinatorSettings:
    """What a hospital would write to play the coordinator: its own folder, the public port, the CA certificate."""
    mallory = deploy / "mallory"
    settings = CoordinatorSettings.load(deploy / "coordinator")
    played = settings.model_copy(update={"folder": mallory, "control_port": settings.port})
    (mallory / "sites").mkdir(exist_ok=True)
    shutil.copyfile(mallory / "mallory.pub", played.public_key("mallory"))
    flower.write_connection(played)
    return played


def refusal(command: flower.Command) -> str:
    process = command.start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate(timeout=300)[0].decode()
    assert "registered successfully" not in said and "Successfully started run" not in said
    assert '"success": true' not in said
    return said


def test_a_hospital_can_neither_register_a_node_nor_submit_a_run(deploy: Path) -> None:
    played = as_coordinator_through_the_door(deploy)
    assert "404" in refusal(flower.register(played, "mallory"))
    assert "404" in refusal(flower.submit(played, ROOT, "0" * 32))
    own = CoordinatorSettings.load(deploy / "coordinator")
    flower.write_connection(own)
    assert "mallory" not in {node.site for node in flower.nodes(own)}
    runs = flower.control(own, "list", flower.CONNECTION, "--format", "json").answer()
    assert runs["runs"] == []


def test_a_registration_that_was_cut_short_goes_on_where_it_was(deploy: Path) -> None:
    own = CoordinatorSettings.load(deploy / "coordinator")
    flower.write_connection(own)
    assert flower.register(own, "mallory").answer()["node-id"]  # as if 'site register' had been killed just then
    said = fedpolyp("register", "--folder", str(own.folder))
    assert "oslo is registered" in said and "mallory is registered" in said
    assert sorted(node.site for node in flower.nodes(own) if node.let_in) == ["mallory", "oslo"]


def test_a_key_that_was_taken_out_keeps_nobody_else_from_being_registered(deploy: Path) -> None:
    own = CoordinatorSettings.load(deploy / "coordinator")
    fedpolyp("register", "--folder", str(own.folder))
    unregister = ("unregister", "mallory", "--folder", str(own.folder))
    assert "flwr supernode unregister" in fedpolyp(*unregister, "--print-command")
    assert "mallory is not let in any more" in fedpolyp(*unregister)
    edit = own.folder / "coordinator.toml"
    edit.write_text(edit.read_text().replace('"mallory"]', '"mallory", "tromso"]'))
    write_site_key(deploy / "tromso.key", "tromso")
    shutil.copyfile(deploy / "tromso.pub", own.public_key("tromso"))
    with pytest.raises(FedpolypError, match="a former key of mallory; no key is let in twice"):
        fedpolyp("register", "--folder", str(own.folder))
    assert sorted(node.site for node in flower.nodes(own) if node.let_in) == ["oslo", "tromso"]
    with pytest.raises(FedpolypError, match="'mallory' is not among the registered sites: oslo, tromso"):
        fedpolyp(*unregister)


def test_a_site_sees_that_it_can_connect(deploy: Path) -> None:
    site = SiteSettings.load(deploy / "oslo" / "site.toml")
    connection = connect(site)
    assert connection.days_left > 300 and connection.clock_ahead is not None and abs(connection.clock_ahead) < 10


def test_a_site_with_another_authority_is_told_so(deploy: Path, tmp_path: Path) -> None:
    make_federation(tmp_path / "other", "localhost", 9443, ["oslo"])
    shutil.copyfile(tmp_path / "other" / "oslo" / "ca.crt", deploy / "mallory" / "ca.crt")
    (fault,) = faults_of(SiteSettings.load(deploy / "mallory" / "site.toml"))
    assert fault == (
        "the coordinator's certificate is not accepted: another authority signed it than the one in ca.crt"
    )
