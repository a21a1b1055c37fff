"""Whether a site can reach its coordinator: address, certificate, clock; reported in words, not in a traceback."""

import contextlib
import email.utils
import os
import socket
import ssl
import time
from dataclasses import dataclass

from fedpolyp.errors import UsageError
from fedpolyp.sites.certificates import CIPHERS, certificate_pem, private_key_pem, read_authority, read_certificate
from fedpolyp.sites.names import address_of
from fedpolyp.sites.settings import SiteSettings
from fedpolyp.text import printable

# Limits on the whole check of the coordinator, whatever it answers and however slowly.
_SECONDS, _BYTES = 20.0, 65536
# Flower accepts messages signed from 5 s ahead to 305 s ago; the coordinator's clock is read to the second.
_AHEAD_SECONDS, _BEHIND_SECONDS = 3.0, 240.0
_NO_ADDRESS = "site.toml does not name a coordinator to connect to, as HOST:PORT"
_FEW_DAYS = 30
ASK_FOR_ONE = "the coordinator makes a new one for this site's key: fedpolyp site certify"


@dataclass(frozen=True)
class Connection:
    """The result of a connection to the coordinator."""

    days_left: float  # of its certificate
    own_days_left: float  # of this site's
    clock_ahead: float | None  # seconds that this machine's clock is ahead of the coordinator's, to about one


def connect(settings: SiteSettings) -> Connection:
    """Connect to the coordinator as a site does; whatever it answers, this takes about 20 s at most.

    Raises:
        ConnectionError: it cannot be reached, cannot be trusted, or does not admit this site; the message says why.
        UsageError: the site's own files do not say whom to connect to, whom to trust, or which site this is.
    """
    if (address := address_of(settings.coordinator)) is None:
        raise UsageError(f"{_NO_ADDRESS}; got '{printable(settings.coordinator, 100)}'")
    host, port = address
    context, own = tls_context(settings), read_certificate(settings.certificate)
    own_days_left = (own.not_valid_after_utc.timestamp() - time.time()) / 86400
    if own_days_left < 0:
        raise ConnectionError(f"{settings.certificate} has expired; {ASK_FOR_ONE} (or this machine's clock is wrong)")
    deadline = time.monotonic() + _SECONDS
    try:
        with _connected(host, port, deadline) as plain:
            plain.settimeout(_left(deadline))
            with context.wrap_socket(plain, server_hostname=host) as secure:
                certificate = secure.getpeercert() or {}
                asked = time.time()
                said = _answer(secure, f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode(), deadline)
    except ssl.SSLCertVerificationError as error:
        raise ConnectionError(
            f"the coordinator's certificate is not accepted: {_plain(error.verify_message)}"
        ) from None
    except TimeoutError:
        raise ConnectionError(f"{settings.coordinator} takes longer than {_SECONDS:.0f} s to answer") from None
    except OSError as error:
        raise ConnectionError(f"cannot reach {settings.coordinator}: {error.strerror or error}") from None
    except UnicodeError:
        raise UsageError(f"{_NO_ADDRESS}; got '{printable(settings.coordinator, 100)}'") from None
    if not said:
        raise ConnectionError(f"the coordinator does not accept {settings.certificate}; {ASK_FOR_ONE}")
    if said.split(b"\r\n")[0].split()[1:2] == [b"401"]:
        raise ConnectionError(
            f"the coordinator does not let {settings.name} in: {settings.certificate} is not, or is no longer, the "
            "certificate in its folder"
        )
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return Connection((ends - time.time()) / 86400, own_days_left, _clock_ahead(asked, said))


def tls_context(settings: SiteSettings) -> ssl.SSLContext:
    """A site's TLS context: it trusts only the federation's authority, and presents the site's certificate.

    Raises:
        UsageError: one of the site's files is not what it should be.
    """
    authority = certificate_pem(read_authority(settings.authority)).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it knows no authority except the given one
    context.load_verify_locations(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    if not settings.certificate.exists():
        raise UsageError(f"{settings.certificate} is missing; {ASK_FOR_ONE}")
    read_certificate(settings.certificate)
    # OpenSSL cannot read Flower's form of a key, and reads keys only from files: this one is in memory, and gone
    # afterwards.
    key = os.memfd_create("site.key")
    try:
        os.write(key, private_key_pem(settings.key))
        context.load_cert_chain(settings.certificate, f"/proc/self/fd/{key}")
    except ssl.SSLError:
        raise UsageError(f"{settings.certificate} is not a certificate for {settings.key}; {ASK_FOR_ONE}") from None
    finally:
        os.close(key)
    return context


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address of `host` that answers before the deadline."""
    failed: OSError = TimeoutError("timed out")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_left(deadline))
            plain.connect(address)
        except OSError as error:
            plain.close()
            failed = error
        else:
            return plain
    raise failed


def _answer(secure: ssl.SSLSocket, request: bytes, deadline: float) -> bytes:
    """The beginning of the answer to `request`; empty if the other end closes without an answer."""
    said = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # what came before is the answer
        secure.settimeout(_left(deadline))
        secure.sendall(request)
        while b"\r\n\r\n" not in said and len(said) < _BYTES:
            secure.settimeout(_left(deadline))
            if not (chunk := secure.recv(4096)):
                break
            said += chunk
    return said


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def faults_of(settings: SiteSettings) -> list[str]:
    """The problems that keep this site from its coordinator and may go away without action here; empty if it can
    connect.

    Raises:
        UsageError: the problem is in the site's own files and will not go away.
    """
    try:
        return _clock_faults(connect(settings))
    except ConnectionError as error:
        return [str(error)]


def warnings_of(connection: Connection) -> list[str]:
    """Problems of a site that can connect, or that will come soon."""
    warnings = _clock_faults(connection)
    if connection.days_left < _FEW_DAYS:
        warnings.append(f"the coordinator's certificate ends in {connection.days_left:.0f} days: ask it to renew")
    if connection.own_days_left < _FEW_DAYS:
        warnings.append(f"this site's certificate ends in {connection.own_days_left:.0f} days; {ASK_FOR_ONE}")
    return warnings


def _clock_faults(connection: Connection) -> list[str]:
    ahead = connection.clock_ahead
    if ahead is None or -_BEHIND_SECONDS <= ahead <= _AHEAD_SECONDS:
        return []
    side = "ahead of" if ahead > 0 else "behind"
    return [
        f"this machine's clock is {abs(ahead):.0f} s {side} the coordinator's, which refuses messages signed with "
        "such a time: set the clock by NTP"
    ]


def _plain(message: str) -> str:
    if "expired" in message:
        return "it has expired; the coordinator must renew it (or this machine's clock is wrong)"
    if "not yet valid" in message:
        return "it is not valid yet; this machine's clock may be slow"
    if "self-signed" in message or "self signed" in message or "unable to get local issuer" in message:
        return "it was not signed by the authority in ca.crt"
    return message


def _clock_ahead(asked: float, answer: bytes) -> float | None:
    """By how much the clock that said `asked` was ahead of the one that dated the answer.

    The time of the request makes up for some of being ahead; Flower, too, compares after the transfer.
    """
    for line in answer.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "date":
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # the other end does not know the time
                return asked - email.utils.parsedate_to_datetime(value.strip()).timestamp()
    return None
