"""The coordinator's nginx, by itself: where it listens, and what it does with what passes through."""

import http.client
import http.server
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedpolyp.errors import UsageError
from fedpolyp.sites import proxy
from fedpolyp.sites.connection import connect
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.proxy import nginx_config
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings
from scripts.deploy_demo import free_port, wait_for

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx")
needs_ipv6 = pytest.mark.skipif(not proxy._has_ipv6(), reason="there is no IPv6")
LARGE = bytes(range(256)) * 80_000  # 20 MB


def coordinator(folder: Path, host: str = "localhost") -> CoordinatorSettings:
    make_federation(folder, host, free_port(), ["oslo"])
    file = folder / "coordinator" / "coordinator.toml"
    file.write_text(file.read_text().replace("control_port = 18080", f"control_port = {free_port()}"))
    return CoordinatorSettings.load(folder / "coordinator")


def nginx(settings: CoordinatorSettings, listen: str) -> list[str]:
    work = settings.folder / "proxy"
    work.mkdir()
    (work / "nginx.conf").write_text(nginx_config(settings, listen))
    return ["nginx", "-e", "stderr", "-c", str(work / "nginx.conf")]


@contextmanager
def serving(settings: CoordinatorSettings, listen: str) -> Iterator[None]:
    process = subprocess.Popen(nginx(settings, listen))
    try:
        wait_for(settings.port, host=listen)
        yield
    finally:
        process.terminate()
        process.wait()


@needs_nginx
@pytest.mark.parametrize(
    "listen", ["", "127.0.0.1", "localhost", *(pytest.param(ip, marks=needs_ipv6) for ip in ("::1", "[::1]"))]
)
def test_nginx_takes_every_kind_of_address_to_listen_on(tmp_path: Path, listen: str) -> None:
    said = subprocess.run([*nginx(coordinator(tmp_path / "deploy"), listen), "-t"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_without_an_address_it_listens_on_all_of_both_kinds_where_there_are_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = coordinator(tmp_path / "deploy")
    monkeypatch.setattr(proxy, "_has_ipv6", lambda: True)
    assert f"listen {settings.port} ssl;" in nginx_config(settings)
    assert f"listen [::]:{settings.port} ssl;" in nginx_config(settings)
    monkeypatch.setattr(proxy, "_has_ipv6", lambda: False)
    assert "[::]" not in nginx_config(settings)


def test_what_is_no_address_to_listen_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--listen takes a host name or an IP address"):
        nginx_config(coordinator(tmp_path / "deploy"), "127.0.0.1:80; include /etc/passwd")


@needs_nginx
@needs_ipv6
def test_a_site_reaches_a_coordinator_that_has_only_an_ipv6_address(tmp_path: Path) -> None:
    settings = coordinator(tmp_path / "deploy", "::1")
    with serving(settings, "::1"):
        assert connect(SiteSettings.load(tmp_path / "deploy" / "oslo" / "site.toml")).days_left > 300


class Superlink(http.server.BaseHTTPRequestHandler):
    """Answers with more than nginx holds in memory, and says how much it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        got, length = 0, int(self.headers["Content-Length"])
        while got < length:
            got += len(self.rfile.read(min(65536, length - got)))
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


@needs_nginx
def test_a_large_message_passes_both_ways_over_a_slow_link(tmp_path: Path) -> None:
    # As root, nginx's workers are 'nobody', who cannot write in the coordinator's folder.
    settings = coordinator(tmp_path / "deploy")
    context = ssl.create_default_context(cafile=str(settings.authority))
    with superlink(settings), serving(settings, "127.0.0.1"):
        connection = http.client.HTTPSConnection("localhost", settings.port, context=context, timeout=60)
        connection.request("POST", "/v1/fleet/push-object", LARGE)
        response = connection.getresponse()
        assert response.getheader("X-Got") == str(len(LARGE))
        time.sleep(1)  # in which nginx gets all that it would put down somewhere
        assert response.read() == LARGE
        connection.close()
    assert not any(file.is_file() and file.suffix == ".log" for file in (settings.folder / "proxy").rglob("*"))
