"""Whether a site can reach its coordinator: address, certificate, clock; told in words, not in a traceback."""

import email.utils
import socket
import ssl
import time
from dataclasses import dataclass

from fedpolyp.sites.settings import SiteSettings

_TIMEOUT = 10.0
_CLOCK_SECONDS = 30.0
_FEW_DAYS = 30


@dataclass(frozen=True)
class Connection:
    """What a connection to the coordinator showed."""

    days_left: float  # of its certificate
    clock_ahead: float | None  # seconds that this machine's clock is ahead of the coordinator's


def connect(settings: SiteSettings) -> Connection:
    """Connect to the coordinator as a site does, and look.

    Raises:
        ConnectionError: it cannot be reached, or is not to be trusted; the message says why.
    """
    host, _, port = settings.coordinator.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=str(settings.authority))
        with (
            socket.create_connection((host, int(port)), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate = secure.getpeercert() or {}
            secure.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            said = b""
            while chunk := secure.recv(4096):
                said += chunk
    except ssl.SSLCertVerificationError as error:
        raise ConnectionError(
            f"the coordinator's certificate is not accepted: {_plain(error.verify_message)}"
        ) from None
    except FileNotFoundError:
        raise ConnectionError(f"{settings.authority} is missing") from None
    except OSError as error:
        raise ConnectionError(f"cannot reach {settings.coordinator}: {error.strerror or error}") from None
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return Connection((ends - time.time()) / 86400, _clock_ahead(said))


def faults_of(settings: SiteSettings) -> list[str]:
    """What keeps this site from its coordinator, in words; nothing when it can connect."""
    try:
        connect(settings)
    except ConnectionError as error:
        return [str(error)]
    return []


def warnings_of(connection: Connection) -> list[str]:
    """What will keep this site from its coordinator soon."""
    warnings = []
    if connection.days_left < _FEW_DAYS:
        warnings.append(f"the coordinator's certificate ends in {connection.days_left:.0f} days: ask it to renew")
    ahead = connection.clock_ahead
    if ahead is not None and abs(ahead) > _CLOCK_SECONDS:
        warnings.append(
            f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's: "
            "set it by NTP, or signed messages are refused"
        )
    return warnings


def _plain(message: str) -> str:
    if "expired" in message:
        return "it has expired; the coordinator must renew it (or this machine's clock is wrong)"
    if "not yet valid" in message:
        return "it is not valid yet; this machine's clock may be slow"
    if "self-signed" in message or "self signed" in message or "unable to get local issuer" in message:
        return "another authority signed it than the one in ca.crt"
    return message


def _clock_ahead(answer: bytes) -> float | None:
    for line in answer.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "date":
            return time.time() - email.utils.parsedate_to_datetime(value.strip()).timestamp()
    return None
