"""A data set arrives whole and as it was first seen, or one sentence says why not; from a server on loopback."""

import io
import json
import os
import socket
import ssl
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedpolyp.data.download.datasets import DATA_SETS, DataSet
from fedpolyp.data.download.download import Downloaded, download
from fedpolyp.data.download.transfer import Transfer
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.sites.certificates import Authority, certificate_pem, key_pem
from tests.command import exit_code


def archive(seed: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for part in ("images", "masks"):
            info = zipfile.ZipInfo(f"Set/{part}/a.png", (2026, 1, 1, 0, 0, 0))
            file.writestr(info, bytes((seed + n * n) % 251 for n in range(40_000)))
    return packed.getvalue()


ARCHIVE = archive()


@dataclass
class Server:
    """An HTTPS server on loopback, and how it behaves."""

    url: str = ""
    content: bytes = ARCHIVE
    etag: str = '"1"'
    cuts: list[int] = field(default_factory=list)  # after so many bytes each of the next answers ends
    stalls: bool = False  # after the first bytes
    status: int = 200
    location: str = ""
    kind: str = "application/zip"
    ignores_ranges: bool = False
    ranges: list[str | None] = field(default_factory=list)  # that were asked for
    done: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.ranges.append(asked)
        if request.path == "/elsewhere":
            request.send_response(302)
            request.send_header("Location", self.location)
            request.end_headers()
            return
        start = 0
        if asked and not self.ignores_ranges and request.headers["If-Range"] == self.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        request.send_response(206 if start else self.status)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        rest = self.content[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.send_header("Content-Type", self.kind)
        if self.etag:
            request.send_header("ETag", self.etag)
        request.end_headers()
        if self.stalls:
            request.wfile.write(rest[:1000])
            request.wfile.flush()
            self.done.wait()
            return
        request.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("test")


def serving(folder: Path, authority: Authority, name: str = "127.0.0.1") -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # of clients that break off
            pass

    key, certificate = authority.server_certificate([name])
    (folder / "server.pem").write_bytes(key_pem(key) + certificate_pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    http = Quiet(("127.0.0.1", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    server.url = f"https://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose authority is trusted by the environment alone."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)
    (tmp_path / "ca.pem").write_bytes(certificate_pem(authority.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    yield from serving(tmp_path, authority)


def fetch(server: Server, folder: Path, path: str = "/set.zip", read_timeout: float = 60) -> Downloaded:
    wanted = DataSet("set", "A set", "https://example.org", server.url + path, "set.zip", "free", "nobody")
    return download(wanted, folder, transfer=lambda file: Transfer(file, read_timeout=read_timeout, pause=0))


def left(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != ".lock")


def test_a_good_one_is_unpacked_and_its_checksum_pinned(server: Server, tmp_path: Path) -> None:
    found = fetch(server, tmp_path / "set")
    assert found.first and found.archive.read_bytes() == ARCHIVE
    assert found.files == tmp_path / "set" / "files" / "Set"
    assert sorted(os.listdir(found.files)) == ["images", "masks"]
    said = json.loads(found.pin.read_text())
    assert (said["sha256"], said["bytes"], said["url"]) == (found.sha256, len(ARCHIVE), f"{server.url}/set.zip")
    assert left(tmp_path / "set") == ["files", "set.zip", "set.zip.pin.json"]


def test_what_lies_here_as_it_was_first_seen_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    first = fetch(server, tmp_path / "set")
    again = fetch(server, tmp_path / "set")
    assert len(server.ranges) == 1
    assert again.sha256 == first.sha256 and not again.first and again.files == first.files


def test_a_truncated_one_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [30_000, 20_000]
    assert fetch(server, tmp_path / "set").archive.read_bytes() == ARCHIVE
    assert server.ranges == [None, "bytes=30000-", "bytes=50000-"]


def test_one_that_broke_off_is_kept_and_the_next_call_goes_on_from_there(server: Server, tmp_path: Path) -> None:
    server.cuts = [30_000, 0]
    with pytest.raises(
        FedpolypError, match="broke off: .*; 30,000 bytes are kept, and the same command continues from there"
    ):
        fetch(server, tmp_path / "set")
    assert left(tmp_path / "set") == ["set.zip.part", "set.zip.part.json"]
    assert fetch(server, tmp_path / "set").archive.read_bytes() == ARCHIVE
    assert server.ranges == [None, "bytes=30000-", "bytes=30000-"]


def test_the_rest_of_another_file_is_never_put_behind_the_first_part(server: Server, tmp_path: Path) -> None:
    server.cuts = [30_000, 0]
    with pytest.raises(FedpolypError):
        fetch(server, tmp_path / "set")
    server.content, server.etag = archive(1), '"2"'
    assert fetch(server, tmp_path / "set").archive.read_bytes() == archive(1)


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_where_nothing_tells_that_it_is_the_same_file_it_is_begun_anew(
    server: Server, tmp_path: Path, etag: str
) -> None:
    server.cuts, server.etag = [30_000], etag
    assert fetch(server, tmp_path / "set").archive.read_bytes() == ARCHIVE
    assert server.ranges == [None, None]


def test_a_server_that_knows_no_ranges_sends_it_anew(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ignores_ranges = [30_000], True
    assert fetch(server, tmp_path / "set").archive.read_bytes() == ARCHIVE


def test_a_corrupt_one_is_refused_once_a_checksum_is_known_and_not_kept(server: Server, tmp_path: Path) -> None:
    first = fetch(server, tmp_path / "set")
    first.archive.unlink()
    server.content = ARCHIVE[:500] + bytes([ARCHIVE[500] ^ 1]) + ARCHIVE[501:]
    with pytest.raises(FedpolypError, match=f"corrupt, or its authors have changed it: .* not the {first.sha256}"):
        fetch(server, tmp_path / "set")
    assert left(tmp_path / "set") == ["files", "set.zip.pin.json"]


def test_a_first_one_that_cannot_be_unpacked_is_neither_kept_nor_the_measure(server: Server, tmp_path: Path) -> None:
    server.content = ARCHIVE[:500] + bytes([ARCHIVE[500] ^ 1]) + ARCHIVE[501:]
    with pytest.raises(FedpolypError, match="damaged or incomplete.* not kept"):
        fetch(server, tmp_path / "set")
    assert left(tmp_path / "set") == []
    server.content = ARCHIVE
    assert fetch(server, tmp_path / "set").first


def test_a_server_that_stalls_is_left_after_the_read_timeout(server: Server, tmp_path: Path) -> None:
    server.stalls = True
    with pytest.raises(FedpolypError, match=r"broke off: no data came for 0.2 s; [\d,]+ bytes are kept"):
        fetch(server, tmp_path / "set", read_timeout=0.2)


@pytest.mark.parametrize(("status", "said"), [(403, "403 Forbidden"), (404, "404 Not Found"), (503, "503 ")])
def test_a_refusal_is_told_with_its_status(server: Server, tmp_path: Path, status: int, said: str) -> None:
    server.status = status
    with pytest.raises(FedpolypError, match=f"127.0.0.1:.* refused: {said}"):
        fetch(server, tmp_path / "set")
    assert left(tmp_path / "set") == []


def test_a_page_to_sign_in_is_no_archive(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(FedpolypError, match="sent a page instead of a file"):
        fetch(server, tmp_path / "set")


def test_a_redirection_is_followed_with_tls_and_not_without(server: Server, tmp_path: Path) -> None:
    server.location = f"{server.url}/set.zip"
    assert fetch(server, tmp_path / "a", "/elsewhere").archive.read_bytes() == ARCHIVE
    server.location = server.location.replace("https", "http")
    with pytest.raises(FedpolypError, match="an address without TLS, which is not followed"):
        fetch(server, tmp_path / "b", "/elsewhere")
    server.location = "/elsewhere"
    with pytest.raises(FedpolypError, match="redirects more than 10 times"):
        fetch(server, tmp_path / "c", "/elsewhere")


def test_a_server_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        free = door.getsockname()[1]
    server.url = f"https://127.0.0.1:{free}"
    with pytest.raises(FedpolypError, match="broke off: .*refused"):
        fetch(server, tmp_path / "set")


def test_a_certificate_of_another_authority_or_another_name_is_refused(
    server: Server, tmp_path: Path, authority: Authority
) -> None:
    for own, name in ((Authority.new("other"), "127.0.0.1"), (authority, "example.org")):
        for wrong in serving(tmp_path, own, name):
            with pytest.raises(FedpolypError, match="certificate of 127.0.0.1:.* was not verified .*SSL_CERT_FILE"):
                fetch(wrong, tmp_path / "set")
            assert wrong.ranges == []
    assert left(tmp_path / "set") == []


def test_nothing_in_the_environment_turns_verification_off(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    with pytest.raises(FedpolypError, match="was not verified"):
        fetch(server, tmp_path / "set")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere"))
    with pytest.raises(FedpolypError, match="REQUESTS_CA_BUNDLE names .*nowhere, which does not exist"):
        fetch(server, tmp_path / "set")


def test_the_environments_proxy_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        asked: list[bytes] = []

        def refuse() -> None:
            caller = door.accept()[0]
            with caller:
                asked.append(caller.recv(4096))
                caller.sendall(b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{door.getsockname()[1]}")
        server.url = "https://data.example.org"
        with pytest.raises(FedpolypError, match="the proxy to data.example.org refused .*407"):
            fetch(server, tmp_path / "set")
        thread.join()
    assert asked[0].startswith(b"CONNECT data.example.org:443 ")


def test_an_archive_put_there_by_hand_is_taken_and_pinned(tmp_path: Path) -> None:
    wanted = DATA_SETS["polypgen"]
    with pytest.raises(UsageError, match=r"available only to registered users: sign in at .*syn26376615.* --url"):
        download(wanted, tmp_path)
    (tmp_path / wanted.file).write_bytes(ARCHIVE)
    assert download(wanted, tmp_path).files == tmp_path / "files" / "Set"
    (tmp_path / wanted.file).write_bytes(archive(1))
    with pytest.raises(FedpolypError, match="is not the archive of the first download"):
        download(wanted, tmp_path)


def test_a_rar_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "CVC-ClinicDB.rar").write_bytes(b"Rar!\x1a\x07\x00")
    by_hand = DataSet("clinicdb", "", "", "", "CVC-ClinicDB.rar", "", "")
    assert download(by_hand, tmp_path).files is None


def test_an_address_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must begin with https://; got http://example.org/a.zip"):
        download(DATA_SETS["kvasir-seg"], tmp_path, "http://example.org/a.zip")


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, "data", "download", *arguments)


@pytest.mark.parametrize("name", DATA_SETS)
def test_licence_and_citation_are_shown_and_have_to_be_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert called(monkeypatch, name, "--out", str(tmp_path / "x")) == 2
    told = capsys.readouterr()
    assert DATA_SETS[name].licence in told.out and DATA_SETS[name].citation in told.out
    assert "accept it with --accept-licence" in told.err
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_it_pinned_and_what_comes_next(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--out", str(tmp_path / "x"), "--url", f"{server.url}/a.zip?signature=secret"]
    for said in ("no checksum is published", "the same as at the first download"):
        assert called(monkeypatch, "kvasir-seg", "--accept-licence", *place) == 0
        assert said in capsys.readouterr().out
    assert "secret" not in (tmp_path / "x" / "kvasir-seg.zip.pin.json").read_text()
