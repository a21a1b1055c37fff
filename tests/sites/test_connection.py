"""What stands between a site and its coordinator is told in words."""

import contextlib
import email.utils
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.common import constant

from fedpolyp.errors import UsageError
from fedpolyp.sites import connection
from fedpolyp.sites.certificates import Authority, certificate_pem, key_pem, read_public_key, write_site_key
from fedpolyp.sites.connection import connect, faults_of, warnings_of
from fedpolyp.sites.settings import SiteSettings


def make_own(folder: Path, authority: Authority, start: timedelta = timedelta(0), days: int | None = None) -> None:
    """Make a site's own key, and a certificate for it."""
    if not (folder / "site.key").exists():
        write_site_key(folder / "site.key", "oslo")
    key = read_public_key(folder / "oslo.pub")
    certificate = authority.site_certificate("oslo", key, datetime.now(UTC) + start - timedelta(minutes=1), days)
    (folder / "site.crt").write_bytes(certificate_pem(certificate))


@contextlib.contextmanager
def coordinator(
    folder: Path,
    signer: Authority,
    trusted: Authority,
    start: timedelta = timedelta(0),
    days: int = 300,
    clock: float = 0.0,
    name: str = "localhost",
    answer: bytes | None = None,
) -> Iterator[SiteSettings]:
    """A server on loopback with such a certificate and clock, and a site that is to connect to it.

    What it answers, `answer` says; without an end, where it ends in dots.
    """
    make_own(folder, trusted)
    key, certificate = signer.server_certificate([name], datetime.now(UTC) + start - timedelta(minutes=1), days)
    (folder / "server.pem").write_bytes(key_pem(key) + certificate_pem(certificate))
    (folder / "ca.crt").write_bytes(certificate_pem(trusted.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError), context.wrap_socket(door.accept()[0], server_side=True) as caller:
            caller.recv(4096)
            said = f"HTTP/1.0 404\r\nDate: {email.utils.formatdate(time.time() + clock)}\r\n\r\n".encode()
            caller.sendall(said if answer is None else answer)
            while answer is not None and answer.endswith(b"."):
                caller.sendall(answer[-1024:])
                time.sleep(0.0 if len(answer) > 1 else 0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield SiteSettings(folder=folder, name="oslo", coordinator=f"localhost:{door.getsockname()[1]}")
    finally:
        thread.join()
        door.close()


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority.new("ours")


def test_a_good_coordinator_is_accepted_without_a_warning(tmp_path: Path, ours: Authority) -> None:
    with coordinator(tmp_path, ours, ours) as site:
        found = connect(site)
    assert 298 < found.days_left < 301 and not warnings_of(found)


@pytest.mark.parametrize(
    ("start", "days", "why"),
    [
        (timedelta(days=-10), 9, "it has expired; the coordinator must renew it"),
        (timedelta(days=1), 9, "it is not valid yet; this machine's clock may be slow"),
    ],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_out_of_its_time_is_told(
    tmp_path: Path, ours: Authority, start: timedelta, days: int, why: str
) -> None:
    with coordinator(tmp_path, ours, ours, start, days) as site:
        (fault,) = faults_of(site)
    assert fault.startswith(f"the coordinator's certificate is not accepted: {why}")


def test_a_certificate_of_another_authority_is_told(tmp_path: Path, ours: Authority) -> None:
    with coordinator(tmp_path, Authority.new("theirs"), ours) as site:
        (fault,) = faults_of(site)
    assert fault.endswith("it was not signed by the authority in ca.crt")


def test_a_certificate_for_another_name_is_told(tmp_path: Path, ours: Authority) -> None:
    with coordinator(tmp_path, ours, ours, name="other.example.org") as site:
        (fault,) = faults_of(site)
    assert "not valid for 'localhost'" in fault


def test_a_coordinator_that_is_not_there_is_told(tmp_path: Path, ours: Authority) -> None:
    make_own(tmp_path, ours)
    (tmp_path / "ca.crt").write_bytes(certificate_pem(ours.certificate))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        (fault,) = faults_of(SiteSettings(folder=tmp_path, name="oslo", coordinator=f"localhost:{port}"))
    assert fault == f"cannot reach localhost:{port}: Connection refused"


@pytest.mark.parametrize(("clock", "side"), [(-7.0, "ahead of"), (280.0, "behind")])
def test_a_clock_by_which_signatures_would_be_refused_is_told(
    tmp_path: Path, ours: Authority, clock: float, side: str
) -> None:
    with coordinator(tmp_path, ours, ours, clock=clock) as site:
        (warning,) = warnings_of(connect(site))
    with coordinator(tmp_path, ours, ours, clock=clock) as site:
        (fault,) = faults_of(site)
    assert f"s {side} the coordinator's" in warning and f"s {side} the coordinator's" in fault


@pytest.mark.parametrize("clock", [0.0, 60.0, 180.0])
def test_a_clock_that_is_a_little_behind_is_none_of_it(tmp_path: Path, ours: Authority, clock: float) -> None:
    with coordinator(tmp_path, ours, ours, clock=clock) as site:
        assert faults_of(site) == []


@pytest.mark.parametrize("date", ["yesterday", "Mon, 99 Nov 2026 10:00:00 GMT", ""])
def test_a_date_that_is_none_says_nothing_of_the_clock(date: str) -> None:
    assert connection._clock_ahead(0.0, f"HTTP/1.0 404\r\nDate: {date}\r\n\r\n".encode()) is None


def test_the_bounds_of_the_clock_lie_within_those_of_flower() -> None:
    assert connection._AHEAD_SECONDS + 1 < constant.SYSTEM_TIME_TOLERANCE
    assert connection._BEHIND_SECONDS + 30 < constant.TIMESTAMP_TOLERANCE


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:", ":9443", "localhost:door", "localhost:99999", ".local:9443"]
)
def test_an_address_that_is_none_will_not_pass(tmp_path: Path, ours: Authority, address: str) -> None:
    make_own(tmp_path, ours)
    (tmp_path / "ca.crt").write_bytes(certificate_pem(ours.certificate))
    with pytest.raises(UsageError, match="does not name a coordinator to connect to, as HOST:PORT"):
        faults_of(SiteSettings(folder=tmp_path, name="oslo", coordinator=address))


AUTHORITY = certificate_pem(Authority.new("ours").certificate)
SERVER = certificate_pem(Authority.new("ours").server_certificate(["localhost"])[1])
EXPIRED = certificate_pem(Authority.new("ours", datetime.now(UTC) - timedelta(days=20), 10).certificate)
HALF = AUTHORITY[: len(AUTHORITY) // 2]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot read the authority's certificate .*ca.crt: No such file"),
        (b"no certificate", "it holds no certificate"),
        (b"", "it holds no certificate"),
        (b"\n", "it holds no certificate"),
        (HALF, "it holds no certificate"),
        (AUTHORITY[:200] + b"!" + AUTHORITY[201:], "it holds no certificate"),
        (AUTHORITY + EXPIRED, "must hold one certificate, the authority's; it holds 2"),
        (SERVER, "is not the certificate of an authority, but of a server or a site"),
        (EXPIRED, r"the authority's certificate .*ca.crt has expired on \d{4}-\d\d-\d\d: .*'fedpolyp site init' makes"),
    ],
)
def test_an_authority_that_is_none_will_not_pass(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(UsageError, match=why):
        faults_of(SiteSettings(folder=tmp_path, name="oslo", coordinator="localhost:9443"))


def test_a_site_trusts_one_authority_and_none_that_the_machine_knows(tmp_path: Path, ours: Authority) -> None:
    make_own(tmp_path, ours)
    (tmp_path / "ca.crt").write_bytes(certificate_pem(ours.certificate))
    context = connection.tls_context(SiteSettings(folder=tmp_path, name="oslo", coordinator="localhost:9443"))
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert len(context.get_ca_certs()) == 1 and context.cert_store_stats()["x509"] == 1


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, ours: Authority) -> None:
    with coordinator(tmp_path, ours, ours, days=20) as site:
        (warning,) = warnings_of(connect(site))
    assert "ends in 20 days" in warning


def test_a_certificate_of_the_sites_own_that_ends_soon_or_has_ended_is_told(tmp_path: Path, ours: Authority) -> None:
    with coordinator(tmp_path, ours, ours) as site:
        make_own(tmp_path, ours, days=20)
        (warning,) = warnings_of(connect(site))
    assert "this site's certificate ends in 20 days; the coordinator makes a new one" in warning
    make_own(tmp_path, ours, timedelta(days=-10), 9)
    (fault,) = faults_of(site)
    assert fault.startswith(f"{site.certificate} has expired; the coordinator makes a new one")


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("site.crt", None, "is missing; the coordinator makes a new one for this site's key: fedpolyp site certify"),
        ("site.crt", b"-----BEGIN CERTIFICATE-----", "holds no certificate"),
        ("site.crt", b"another", "is not a certificate for .*site.key"),
        ("site.key", b"\xff", "is not a private key as 'fedpolyp site keygen' makes it"),
        ("site.key", bytes(70_000), "it is larger than 64 KB"),
        ("ca.crt", bytes(70_000), "it is larger than 64 KB"),
        ("ca.crt", "a pipe", "not a regular file"),
        ("site.key", "a pipe", "not a regular file"),
        ("site.crt", "a pipe", "not a regular file"),
    ],
)
def test_a_file_of_the_sites_own_that_is_none_will_not_pass(
    tmp_path: Path, ours: Authority, file: str, content: bytes | str | None, why: str
) -> None:
    make_own(tmp_path, ours)
    (tmp_path / "ca.crt").write_bytes(certificate_pem(ours.certificate))
    if content == b"another":
        (tmp_path / "site.key").unlink()
        (tmp_path / "oslo.pub").unlink()
        write_site_key(tmp_path / "site.key", "oslo")
    else:
        (tmp_path / file).unlink()
        if content == "a pipe":
            os.mkfifo(tmp_path / file)
        elif isinstance(content, bytes):
            (tmp_path / file).write_bytes(content)
    with pytest.raises(UsageError, match=why):
        connect(SiteSettings(folder=tmp_path, name="oslo", coordinator="localhost:9"))


@pytest.mark.parametrize(
    ("answer", "limit", "why"),
    [
        (b".", ("_SECONDS", 1.0), "takes longer than 1 s to answer"),
        (b"Date: never\r\n" * 1000 + b".", None, ""),
        (b"", None, "the coordinator does not accept .*site.crt; the coordinator makes a new one"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", None, "the coordinator does not let oslo in: .*site.crt is not, or is"),
        (b"\r\n\r\n", None, ""),
    ],
    ids=["drips", "floods", "says nothing", "refuses", "says little"],
)
def test_whatever_a_coordinator_answers_the_look_at_it_ends(
    tmp_path: Path,
    ours: Authority,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    limit: tuple[str, float] | None,
    why: str,
) -> None:
    if limit is not None:
        monkeypatch.setattr(connection, *limit)
    with coordinator(tmp_path, ours, ours, answer=answer) as site:
        faults = faults_of(site)
    assert len(faults) == bool(why) and all(re.search(why, fault) for fault in faults)


def test_a_coordinator_that_never_ends_the_handshake_does_not_hold_a_site(
    tmp_path: Path, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_own(tmp_path, ours)
    (tmp_path / "ca.crt").write_bytes(certificate_pem(ours.certificate))
    monkeypatch.setattr(connection, "_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as door:
        (fault,) = faults_of(
            SiteSettings(folder=tmp_path, name="oslo", coordinator=f"localhost:{door.getsockname()[1]}")
        )
    assert fault.endswith("takes longer than 1 s to answer")
