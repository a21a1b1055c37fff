"""The coordinator's nginx, by itself: where it listens, and what it does with what passes through."""

import contextlib
import http.client
import http.server
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.process_tree import descendants
from fedpolyp.sites import proxy
from fedpolyp.sites.connection import connect, faults_of, tls_context
from fedpolyp.sites.folders import certify_sites, make_federation
from fedpolyp.sites.proxy import let_in, make_work_folder, nginx_config, work_folder
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings
from scripts.deploy_demo import free_port, wait_for

needs_ipv6 = pytest.mark.skipif(not proxy._has_ipv6(), reason="there is no IPv6")
LARGE = bytes(range(256)) * 80_000  # 20 MB
MEGABYTE = 1 << 20


def coordinator(folder: Path, host: str = "localhost") -> CoordinatorSettings:
    make_federation(folder, host, free_port(), ["oslo"])
    file = folder / "coordinator" / "coordinator.toml"
    file.write_text(file.read_text().replace("control_port = 18080", f"control_port = {free_port()}"))
    return CoordinatorSettings.load(folder / "coordinator")


def nginx(settings: CoordinatorSettings, listen: str) -> list[str]:
    make_work_folder(settings)
    (work_folder(settings) / "nginx.conf").write_text(nginx_config(settings, listen))
    return ["nginx", "-e", "stderr", "-c", str(work_folder(settings) / "nginx.conf")]


@contextmanager
def serving(settings: CoordinatorSettings, listen: str = "127.0.0.1") -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(nginx(settings, listen), cwd=work_folder(settings))
    try:
        wait_for(settings.port, host=listen)
        yield process
    finally:
        process.terminate()
        process.wait()


def site_at(settings: CoordinatorSettings, name: str = "oslo") -> SiteSettings:
    return SiteSettings.load(settings.folder.parent / name / "site.toml")


@pytest.mark.parametrize(
    "listen", ["", "127.0.0.1", "localhost", *(pytest.param(ip, marks=needs_ipv6) for ip in ("::1", "[::1]"))]
)
def test_nginx_takes_every_kind_of_address_to_listen_on(tmp_path: Path, listen: str) -> None:
    settings = coordinator(tmp_path / "deploy")
    command = [*nginx(settings, listen), "-t"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=work_folder(settings))
    assert said.returncode == 0, said.stderr


def test_without_an_address_it_listens_on_all_of_both_kinds_where_there_are_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = coordinator(tmp_path / "deploy")
    monkeypatch.setattr(proxy, "_has_ipv6", lambda: True)
    assert f"listen {settings.port} ssl " in nginx_config(settings)
    assert f"listen [::]:{settings.port} ssl " in nginx_config(settings)
    monkeypatch.setattr(proxy, "_has_ipv6", lambda: False)
    assert "[::]:" not in nginx_config(settings)


def test_what_is_no_address_to_listen_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--listen takes a host name or an IP address"):
        nginx_config(coordinator(tmp_path / "deploy"), "127.0.0.1:80; include /etc/passwd")


@needs_ipv6
def test_a_site_reaches_a_coordinator_that_has_only_an_ipv6_address(tmp_path: Path) -> None:
    settings = coordinator(tmp_path / "deploy", "::1")
    with serving(settings, "::1"):
        assert connect(SiteSettings.load(tmp_path / "deploy" / "oslo" / "site.toml")).days_left > 300


class Superlink(http.server.BaseHTTPRequestHandler):
    """Answers with more than nginx holds in memory, and says how much it was sent."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        Superlink.asked += 1
        got, length = 0, int(self.headers["Content-Length"])
        while got < length:
            piece = self.rfile.read(min(65536, length - got))
            if not piece:  # the other side has gone
                return
            got += len(piece)
        self.send_response(200)
        self.send_header("Content-Length", str(len(LARGE)))
        self.send_header("X-Got", str(got))
        self.end_headers()
        self.wfile.write(LARGE)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def superlink(settings: CoordinatorSettings) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", settings.control_port), Superlink)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.certificate, settings.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_large_message_passes_both_ways_over_a_slow_link(tmp_path: Path) -> None:
    # As root, nginx's workers are 'nobody', who cannot write in the coordinator's folder.
    settings = coordinator(tmp_path / "deploy")
    context = tls_context(site_at(settings))
    with superlink(settings), serving(settings, "127.0.0.1"):
        connection = http.client.HTTPSConnection("localhost", settings.port, context=context, timeout=300)
        connection.request("POST", "/v1/fleet/push-object", LARGE)
        response = connection.getresponse()
        assert response.getheader("X-Got") == str(len(LARGE))
        time.sleep(1)  # in which nginx gets all that it would put down somewhere
        assert response.read() == LARGE
        connection.close()
    assert not any(file.is_file() and file.suffix == ".log" for file in (settings.folder / "proxy").rglob("*"))


@pytest.fixture
def settings(tmp_path: Path) -> CoordinatorSettings:
    return coordinator(tmp_path / "deploy")


def stranger(settings: CoordinatorSettings) -> ssl.SSLContext:
    """How somebody calls who trusts the coordinator and has no certificate."""
    return ssl.create_default_context(cafile=str(settings.authority))


def memory(process: "subprocess.Popen[bytes]") -> int:
    """Bytes of a process and all that it has started."""
    pages = 0
    for number in {process.pid} | descendants(process.pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * 4096


def test_nothing_is_read_of_a_stranger_without_a_certificate(settings: CoordinatorSettings) -> None:
    asked, sent = Superlink.asked, 0
    with superlink(settings), serving(settings) as process:
        assert faults_of(site_at(settings)) == []  # nginx listens before it has started its workers
        before = memory(process)
        plain = socket.create_connection(("127.0.0.1", settings.port), 300)
        with stranger(settings).wrap_socket(plain, server_hostname="localhost") as caller:
            with contextlib.suppress(OSError):
                caller.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: localhost\r\n")
                caller.sendall(b"Content-Length: %d\r\n\r\n" % (600 * MEGABYTE))
                while sent < 600:
                    caller.sendall(bytes(MEGABYTE))
                    sent += 1
            said = b""
            with contextlib.suppress(OSError):
                said = caller.recv(4096)
        assert memory(process) - before < 4 * MEGABYTE
    assert sent < 10 and said == b"" and Superlink.asked == asked


def test_a_certificate_of_another_authority_is_a_strangers(settings: CoordinatorSettings, tmp_path: Path) -> None:
    make_federation(tmp_path / "other", "localhost", settings.port, ["oslo"])  # whose names are the same
    theirs = SiteSettings.load(tmp_path / "other" / "oslo" / "site.toml")
    theirs.authority.write_bytes(settings.authority.read_bytes())
    with serving(settings):
        (fault,) = faults_of(theirs)
        assert faults_of(site_at(settings)) == []
    assert fault.startswith(f"the coordinator does not accept {theirs.certificate}; the coordinator makes a new one")


def test_a_certificate_that_was_removed_is_refused_and_a_renewed_one_is_let_in(settings: CoordinatorSettings) -> None:
    site, authority = site_at(settings), settings.folder.parent / "authority"

    def says(text: str) -> bool:
        """Wait until the site is told `text`: for a moment, nginx's workers of before go on listening."""
        deadline = time.monotonic() + 300
        while [fault[: len(text)] for fault in faults_of(site)] != [text] * bool(text):
            assert time.monotonic() < deadline, faults_of(site)
        return True

    def reload(process: "subprocess.Popen[bytes]") -> None:
        (work_folder(settings) / "nginx.conf").write_text(nginx_config(settings, "127.0.0.1"))
        process.send_signal(signal.SIGHUP)

    refused = f"the coordinator does not let oslo in: {site.certificate} is not, or is no longer, the certificate"
    with serving(settings) as process:
        assert says("")
        ((renewed,), _) = certify_sites(authority, settings.folder, ["oslo"])
        reload(process)
        assert says(refused)
        site.certificate.write_bytes(renewed.read_bytes())
        assert says("")
        renewed.unlink()
        reload(process)
        assert says(refused)


def half_open(settings: CoordinatorSettings, opened: contextlib.ExitStack, address: str) -> socket.socket:
    """A connection from `address` that has begun a TLS handshake."""
    caller = opened.enter_context(socket.socket())
    caller.bind((address, 0))
    caller.settimeout(300)
    with contextlib.suppress(ConnectionError):
        caller.connect(("127.0.0.1", settings.port))
        caller.sendall(b"\x16\x03\x01\x02\x00\x01")
    return caller


@pytest.mark.parametrize("addresses", [1, 64])
def test_half_open_connections_lock_no_site_out(settings: CoordinatorSettings, addresses: int) -> None:
    with contextlib.ExitStack() as opened, serving(settings):
        for number in range(1022):
            half_open(settings, opened, f"127.0.0.{2 + number % addresses}")
        for _ in range(3):
            assert faults_of(site_at(settings)) == []


@pytest.mark.slow
def test_a_half_open_connection_does_not_stay(settings: CoordinatorSettings) -> None:
    with contextlib.ExitStack() as opened, serving(settings):
        caller = half_open(settings, opened, "127.0.0.2")
        while caller.recv(64):  # raises in a minute
            pass


@pytest.mark.parametrize(
    ("version", "ciphers", "good"),
    [
        (ssl.TLSVersion.TLSv1_3, None, True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
    ],
    ids=["1.3", "1.2 with GCM", "1.2 with CBC", "1.1"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_authenticated_encryption_is_agreed_on(
    settings: CoordinatorSettings, version: ssl.TLSVersion, ciphers: str | None, good: bool
) -> None:
    context = tls_context(site_at(settings))
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    with serving(settings), socket.create_connection(("127.0.0.1", settings.port), 300) as plain:
        if good:
            context.wrap_socket(plain, server_hostname="localhost").close()
        else:
            with pytest.raises(OSError):
                context.wrap_socket(plain, server_hostname="localhost")


def post(settings: CoordinatorSettings, path: str, size: int) -> int:
    connection = http.client.HTTPSConnection(
        "localhost", settings.port, context=tls_context(site_at(settings)), timeout=300
    )
    with contextlib.closing(connection):
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        with contextlib.suppress(OSError):  # nginx answers before it has read what is too much
            for _ in range(-(-size // MEGABYTE)):
                connection.send(bytes(min(size, MEGABYTE)))
        return connection.getresponse().status


def test_large_bodies_pass_only_where_objects_are_pushed(settings: CoordinatorSettings) -> None:
    with superlink(settings), serving(settings):
        assert post(settings, "/v1/fleet/push-object", 20 * MEGABYTE) == 200
        asked = Superlink.asked
        assert post(settings, "/v1/fleet/push-object", 33 * MEGABYTE) == 413
        assert post(settings, "/v1/fleet/pull-messages", 2 * MEGABYTE) == 413
        assert post(settings, "/v1/fleet/push-messages", 2 * MEGABYTE) == 413
        assert Superlink.asked == asked


def test_one_site_has_only_so_many_requests_at_a_time(settings: CoordinatorSettings) -> None:
    context = tls_context(site_at(settings))
    with superlink(settings), serving(settings), contextlib.ExitStack() as opened:
        for _ in range(8):
            plain = opened.enter_context(socket.create_connection(("127.0.0.1", settings.port), 300))
            caller = opened.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            caller.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        deadline = time.monotonic() + 300
        while (status := post(settings, "/v1/fleet/push-object", 1)) != 503:
            assert time.monotonic() < deadline, status
        assert post(settings, "/v1/fleet/pull-messages", 1) == 200


def test_only_whole_certificates_of_the_authority_let_a_site_in(settings: CoordinatorSettings, tmp_path: Path) -> None:
    assert set(let_in(settings)[0]) == {"oslo"}
    make_federation(tmp_path / "other", "localhost", 9443, ["tromso"])
    theirs = (tmp_path / "other" / "tromso" / "site.crt").read_bytes()
    for name, content in (
        ("tromso", theirs),
        ("half", settings.site_certificate("oslo").read_bytes()[:100]),
        ("bergen", settings.site_certificate("oslo").read_bytes()),
        ("a;b", settings.site_certificate("oslo").read_bytes()),
    ):
        settings.site_certificate(name).write_bytes(content)
    known, faults = let_in(settings)
    assert set(known) == {"oslo"} and len(faults) == 4
    for why in ("is not signed by the authority", "holds no certificate", "is the certificate of another site"):
        assert why in " ".join(faults)


def test_an_nginx_without_its_stream_module_is_told_with_the_package(
    settings: CoordinatorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"configure arguments: --modules-path={tmp_path} --with-stream=dynamic"
    program = tmp_path / "nginx"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FedpolypError, match="apt-get install libnginx-mod-stream"):
        nginx_config(settings)
    (tmp_path / "ngx_stream_module.so").touch()
    assert f'load_module "{tmp_path}/ngx_stream_module.so";' in nginx_config(settings)
    program.write_text("#!/bin/sh\necho 'configure arguments: --with-stream --with-threads' >&2\n")
    assert "load_module" not in nginx_config(settings)
    program.unlink()
    with pytest.raises(FedpolypError, match="there is no program 'nginx'"):
        nginx_config(settings)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1", True),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),  # as 2001:db8:0:0:ffff:1:2:3 is written
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::1", "::2", False),
    ],
)
def test_addresses_of_one_network_of_ipv6_are_counted_as_one(one: str, other: str, same: bool) -> None:
    pattern = re.compile(proxy._NETWORK.replace("(?<", "(?P<"))
    networks = {found["network_of"] if (found := pattern.match(address)) else address for address in (one, other)}
    assert (len(networks) == 1) is same
