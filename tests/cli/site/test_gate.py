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

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from fedpolyp.cli import flower
from fedpolyp.errors import FedpolypError
from fedpolyp.process_tree import descendants
from fedpolyp.sites.certificates import write_site_key
from fedpolyp.sites.connection import connect, faults_of, tls_context
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings
from scripts.deploy_demo import free_port
from tests.cli.site.called import fedpolyp
from tests.deployed import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


SERVING: dict[Path, "subprocess.Popen[bytes]"] = {}


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
        SERVING[folder] = serve
        yield folder
    finally:
        serve.send_signal(signal.SIGTERM)
        serve.wait()
        assert not listens(door) and not listens(control)


def post(deploy: Path, path: str) -> tuple[int, bytes]:
    """The HTTP status and answer that a hospital gets which posts an empty request to `path`, spelled exactly so."""
    site = SiteSettings.load(deploy / "mallory" / "site.toml")
    host, _, port = site.coordinator.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=tls_context(site), timeout=300)
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
    refusal(flower.register(played, "mallory"))  # Flower's own programs have no certificate to show
    refusal(flower.submit(played, ROOT, "0" * 32))
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
    assert "mallory is no longer registered" in fedpolyp(*unregister)
    edit = own.folder / "coordinator.toml"
    edit.write_text(edit.read_text().replace('"mallory"]', '"mallory", "tromso"]'))
    write_site_key(deploy / "tromso.key", "tromso")
    shutil.copyfile(deploy / "tromso.pub", own.public_key("tromso"))
    # Its certificate went with its key; who has only the former key is told, and keeps nobody else out.
    fedpolyp("certify", "mallory", "tromso", "--out", str(deploy))
    with pytest.raises(FedpolypError, match="a former key of mallory; a removed key is never registered again"):
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
    assert fault == ("the coordinator's certificate is not accepted: it was not signed by the authority in ca.crt")


def serving_bytes(deploy: Path) -> int:
    """The memory of the SuperLink, nginx and all that they have started."""
    serve = SERVING[deploy]
    pages = 0
    for number in descendants(serve.pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * 4096


def test_what_a_stranger_sends_takes_no_memory(deploy: Path) -> None:
    own = CoordinatorSettings.load(deploy / "coordinator")
    context, sent, before = ssl.create_default_context(cafile=str(own.authority)), 0, serving_bytes(deploy)
    with (
        socket.create_connection(("localhost", own.port), 300) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as caller,
        suppress(OSError),
    ):
        caller.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 629145600\r\n\r\n")
        while sent < 600:
            caller.sendall(bytes(1 << 20))
            sent += 1
    assert sent < 10 and serving_bytes(deploy) - before < 32 << 20


def test_a_certificate_lets_its_site_in_for_as_long_as_it_lies_in_the_coordinators_folder(deploy: Path) -> None:
    site, own = SiteSettings.load(deploy / "oslo" / "site.toml"), CoordinatorSettings.load(deploy / "coordinator")
    certificate = own.site_certificate("oslo").read_bytes()
    assert faults_of(site) == []
    own.site_certificate("oslo").unlink()
    wait_until(lambda: "does not let oslo in" in " ".join(faults_of(site)), "it is refused")
    own.site_certificate("oslo").write_bytes(b"half a certificate")
    wait_until(lambda: "oslo.crt holds no certificate" in (deploy / "serve.log").read_text(), "it is told")
    own.site_certificate("oslo").write_bytes(certificate)
    wait_until(lambda: faults_of(site) == [], "it is let in")
    fedpolyp("renew", "--out", str(deploy))  # read when nginx starts again
    assert faults_of(site) == []


def test_nobody_but_its_own_executor_takes_an_order_at_a_site(deploy: Path, tmp_path: Path) -> None:
    own = CoordinatorSettings.load(deploy / "coordinator")
    flower.write_connection(own)
    if not any(node.site == "oslo" and node.let_in for node in flower.nodes(own)):
        flower.register(own, "oslo").answer()
    port, site = free_port(), deploy / "oslo"
    command = [sys.executable, "-m", "fedpolyp", "site", "join", f"--folder={site}", f"--port={port}", f"--data={site}"]
    log = tmp_path / "join.log"
    with log.open("wb") as stream:
        join = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: "SuperNode ID:" in log.read_text(), "it has joined")
        runtime = site / "private" / "flower" / "runtime"
        wrong = SuperExecAuthHttpInterceptor(
            master_secret=b"guessed", protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
        )
        right = SuperExecAuthHttpInterceptor(
            master_secret=(runtime / "secret").read_bytes(),
            protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"}),
        )
        for secret, status in (([], 401), ([wrong], 401), ([right], 200)):
            client = RuntimeHttpClient.from_server_address(
                server_address=f"127.0.0.1:{port}",
                insecure=False,
                root_certificates=(runtime / "ca.crt").read_bytes(),
                interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), *secret],
            )
            with client:
                try:
                    assert not client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-clientapp"])).token
                    got = 200
                except httpx.HTTPStatusError as error:
                    got = error.response.status_code
            assert got == status
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        plain.request("GET", "/docs")
        with pytest.raises(OSError):  # it says nothing in clear
            plain.getresponse()
    finally:
        join.send_signal(signal.SIGTERM)
        join.wait()
