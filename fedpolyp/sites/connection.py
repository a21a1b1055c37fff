"""Whether a site can reach its coordinator: address, certificate, clock; told in words, not in a traceback."""

import contextlib
import email.utils
import socket
import ssl
import time
from dataclasses import dataclass

from fedpolyp.errors import UsageError
from fedpolyp.sites.settings import SiteSettings

_TIMEOUT = 10.0
# Flower takes signed messages that are from 5 s ahead to 305 s old; the coordinator's clock is read to the second.
_AHEAD_SECONDS, _BEHIND_SECONDS = 3.0, 240.0
_NO_ADDRESS = "site.toml names no coordinator to connect to, as HOST:PORT"
_FEW_DAYS = 30


@dataclass(frozen=True)
class Connection:
    """What a connection to the coordinator showed."""

    days_left: float  # of its certificate
    clock_ahead: float | None  # seconds that this machine's clock is ahead of the coordinator's, to about one


def connect(settings: SiteSettings) -> Connection:
    """Connect to the coordinator as a site does, and look.

    Raises:
        ConnectionError: it cannot be reached, or is not to be trusted; the message says why.
        UsageError: the site's own files do not say whom to connect to, or whom to trust.
    """
    host, _, port = settings.coordinator.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{_NO_ADDRESS}; got '{settings.coordinator}'")
    try:
        context = ssl.create_default_context(cafile=str(settings.authority))
    except OSError as error:
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"cannot read the authority's certificate {settings.authority}: {why}") from None
    try:
        with (
            socket.create_connection((host, int(port)), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate = secure.getpeercert() or {}
            asked = time.time()
            secure.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            said = b""
            while chunk := secure.recv(4096):
                said += chunk
    except ssl.SSLCertVerificationError as error:
        raise ConnectionError(
            f"the coordinator's certificate is not accepted: {_plain(error.verify_message)}"
        ) from None
    except OSError as error:
        raise ConnectionError(f"cannot reach {settings.coordinator}: {error.strerror or error}") from None
    except UnicodeError:
        raise UsageError(f"{_NO_ADDRESS}; got '{settings.coordinator}'") from None
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return Connection((ends - time.time()) / 86400, _clock_ahead(asked, said))


def faults_of(settings: SiteSettings) -> list[str]:
    """What keeps this site from its coordinator and may pass by itself, in words; nothing when it can connect.

    Raises:
        UsageError: what keeps it will not pass, for it lies in the site's own files.
    """
    try:
        return _clock_faults(connect(settings))
    except ConnectionError as error:
        return [str(error)]


def warnings_of(connection: Connection) -> list[str]:
    """What keeps this site from its coordinator although it can connect, or will soon."""
    warnings = _clock_faults(connection)
    if connection.days_left < _FEW_DAYS:
        warnings.append(f"the coordinator's certificate ends in {connection.days_left:.0f} days: ask it to renew")
    return warnings


def _clock_faults(connection: Connection) -> list[str]:
    ahead = connection.clock_ahead
    if ahead is None or -_BEHIND_SECONDS <= ahead <= _AHEAD_SECONDS:
        return []
    side = "ahead of" if ahead > 0 else "behind"
    return [
        f"this machine's clock is {abs(ahead):.0f} s {side} the coordinator's, which refuses what is signed so: "
        "set it by NTP"
    ]


def _plain(message: str) -> str:
    if "expired" in message:
        return "it has expired; the coordinator must renew it (or this machine's clock is wrong)"
    if "not yet valid" in message:
        return "it is not valid yet; this machine's clock may be slow"
    if "self-signed" in message or "self signed" in message or "unable to get local issuer" in message:
        return "another authority signed it than the one in ca.crt"
    return message


def _clock_ahead(asked: float, answer: bytes) -> float | None:
    """By how much the clock that said `asked` was ahead of the one that dated the answer.

    The way there takes time, which makes up for some of being ahead; Flower, too, compares after the way.
    """
    for line in answer.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "date":
            with contextlib.suppress(ValueError):  # whoever answered does not know the time
                return asked - email.utils.parsedate_to_datetime(value.strip()).timestamp()
    return None
