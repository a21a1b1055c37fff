"""Names of sites, and the hosts and addresses at which they reach the coordinator."""

import ipaddress
import re

from fedpolyp.errors import UsageError
from fedpolyp.sites.table import SAID
from fedpolyp.text import printable

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_TAKEN = ("authority", "coordinator", "refused")  # the other folders of a federation, and nginx's own socket


def is_name(text: str) -> bool:
    """Whether a site can be called so."""
    return not fault_of_name(text)


def check_names(names: list[str]) -> None:
    """Refuse names of sites that are not allowed, or are given twice.

    Raises:
        UsageError: one is.
    """
    for name in names:
        if fault := fault_of_name(name):
            raise UsageError(fault)
    if len(set(names)) < len(names) or not names:
        raise UsageError(f"each site must be named once; got '{printable(','.join(names), SAID)}'")


def fault_of_name(name: str) -> str:
    """Why no site can be called `name`, as a sentence; '' for nothing."""
    if not _NAME.fullmatch(name):
        said = printable(name, SAID)
        return f"a site's name has lower-case letters, digits and hyphens, 63 at most; got '{said}'"
    if name in _TAKEN:
        return f"no site can be called {', '.join(_TAKEN[:-1])} or {_TAKEN[-1]}: these names are taken"
    return ""


def check_host(host: str, option: str = "--coordinator") -> None:
    """Refuse a value of `option` that is neither a host name nor an IP address.

    Raises:
        UsageError: it is neither.
    """
    if not _is_host(host):
        said = printable(host, SAID)
        raise UsageError(f"{option} takes a host name or an IP address without a port; got '{said}'")


def address_of(coordinator: str) -> tuple[str, int] | None:
    """Host and port of 'HOST:PORT', where an IPv6 address is in brackets; None if it is not such an address."""
    host, _, port = coordinator.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (_is_host(host) and port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return None
    return host, int(port)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True
