"""What the authority signs is accepted where it should be and nowhere else; keys stay where they are made."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.sites.certificates import (
    Authority,
    certificate_pem,
    key_pem,
    private_key_pem,
    read_public_key,
    write_secret,
    write_site_key,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def handshake(
    tmp_path: Path, trusted: Authority, signer: Authority, names: list[str], asked: str, **when: object
) -> None:
    """A TLS handshake in memory between a server with `signer`'s certificate and a client that trusts `trusted`."""
    key, certificate = signer.server_certificate(names, **when)  # type: ignore[arg-type]
    (tmp_path / "server.pem").write_bytes(key_pem(key) + certificate_pem(certificate))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tmp_path / "server.pem")
    client.load_verify_locations(cadata=certificate_pem(trusted.certificate).decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=asked), server.wrap_bio(up, down, server_side=True)]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("ours")


@pytest.mark.parametrize("asked", ["fed.example.org", "127.0.0.1", "2001:db8::1"])
def test_a_certificate_is_good_for_every_name_it_was_made_for(tmp_path: Path, authority: Authority, asked: str) -> None:
    handshake(tmp_path, authority, authority, ["fed.example.org", "127.0.0.1", "2001:db8::1"], asked)


@pytest.mark.parametrize(
    ("asked", "start", "days", "why"),
    [
        ("other.example.org", timedelta(0), 10, "Hostname mismatch"),
        ("fed.example.org", timedelta(days=-10), 9, "expired"),
        ("fed.example.org", timedelta(days=1), 9, "not yet valid"),
    ],
    ids=["another name", "expired", "not yet valid"],
)
def test_a_certificate_is_refused(
    tmp_path: Path, authority: Authority, asked: str, start: timedelta, days: int, why: str
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        handshake(
            tmp_path, authority, authority, ["fed.example.org"], asked, start=datetime.now(UTC) + start, days=days
        )


def test_the_certificate_of_another_authority_is_refused(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer|self-signed"):
        handshake(tmp_path, authority, Authority.new("theirs"), ["a.example.org"], "a.example.org")


def test_a_servers_key_cannot_sign_certificates(authority: Authority) -> None:
    _, certificate = authority.server_certificate(["a.example.org"])
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_sites_key_is_private_on_p384_and_fits_its_public_key(tmp_path: Path) -> None:
    public = write_site_key(tmp_path / "site.key", "oslo")
    assert public == tmp_path / "oslo.pub" and mode(tmp_path / "site.key") == 0o600
    key = load_ssh_private_key((tmp_path / "site.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    assert read_public_key(public) == key.public_key()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_site_key(tmp_path / "site.key", "oslo")
    before = (tmp_path / "site.key").read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        write_site_key(tmp_path / "site.key", "oslo")
    assert (tmp_path / "site.key").read_bytes() == before


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    write_site_key(tmp_path / "site.key", "oslo")
    with pytest.raises(UsageError, match="must not leave its site"):
        read_public_key(tmp_path / "site.key")


@pytest.mark.parametrize("content", ["", "ssh-rsa AAAA", "hello"])
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.pub").write_text(content)
    with pytest.raises(UsageError, match="is not a public key"):
        read_public_key(tmp_path / "a.pub")


def test_an_authority_is_read_back_and_another_ones_key_is_noticed(tmp_path: Path, authority: Authority) -> None:
    write_secret(tmp_path / "ca.key", key_pem(authority.key))
    (tmp_path / "ca.crt").write_bytes(certificate_pem(authority.certificate))
    assert Authority.load(tmp_path / "ca.key", tmp_path / "ca.crt").certificate == authority.certificate
    (tmp_path / "ca.crt").write_bytes(certificate_pem(Authority.new("theirs").certificate))
    with pytest.raises(FedpolypError, match="is not the key of"):
        Authority.load(tmp_path / "ca.key", tmp_path / "ca.crt")


def test_a_sites_certificate_opens_a_coordinators_door_and_plays_no_coordinator(
    tmp_path: Path, authority: Authority
) -> None:
    key = read_public_key(write_site_key(tmp_path / "site.key", "localhost"))
    certificate = authority.site_certificate("localhost", key)
    (tmp_path / "site.pem").write_bytes(private_key_pem(tmp_path / "site.key") + certificate_pem(certificate))
    server_key, server_certificate = authority.server_certificate(["localhost"])
    (tmp_path / "server.pem").write_bytes(key_pem(server_key) + certificate_pem(server_certificate))

    def meet(client_has: str, server_has: str) -> None:
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.load_cert_chain(tmp_path / server_has)
        client.load_cert_chain(tmp_path / client_has)
        client.check_hostname = False
        server.verify_mode = ssl.CERT_REQUIRED
        for side in (server, client):
            side.load_verify_locations(cadata=certificate_pem(authority.certificate).decode())
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
        for _ in range(6):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    meet("site.pem", "server.pem")
    with pytest.raises(ssl.SSLError):
        meet("site.pem", "site.pem")
    with pytest.raises(ssl.SSLError):
        meet("server.pem", "server.pem")
