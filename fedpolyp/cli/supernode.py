"""Starts Flower's SuperNode at a site, with two things that Flower 1.41 has no options for: `python -m` this module.

- The site's certificate is shown to the coordinator, whose nginx answers nobody without one.
- Only the executor that this starts can take a task: it knows a secret, which Flower asks for in its "process"
  isolation alone, and speaks TLS with the SuperNode, so that no other user of the machine can pose as either.

All hooks into Flower's private parts for that are here and in `executor`; tests/cli/test_supernode.py checks them.
"""

import importlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedpolyp.sites.certificates import Authority, certificate_pem, key_pem, write_secret
from fedpolyp.sites.connection import tls_context
from fedpolyp.sites.settings import SiteSettings

HOST = "127.0.0.1"
_RUNTIME = "runtime"  # in Flower's own folder at the site


def main() -> None:
    """Start it; arguments: the site's folder, then those of `flower-supernode`."""
    # The package hides this module behind a function of the same name.
    flower: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")
    settings = SiteSettings.load(Path(sys.argv[1]) / "site.toml")
    show_certificate(settings)
    authority, certificate, key, secret = between(settings)
    start = flower.start_client_internal

    def start_with_executor(*, runtime_api_address: str, **options: Any) -> None:
        # Not earlier: another holder of the port would keep the SuperNode from starting until now.
        executor(runtime_api_address, authority, secret)
        start(runtime_api_address=runtime_api_address, **options)

    flower.start_client_internal = start_with_executor
    sys.argv = [
        "flower-supernode",
        *sys.argv[2:],
        "--isolation=process",
        f"--superexec-auth-secret-file={secret}",
        f"--ssl-ca-certfile={authority}",
        f"--ssl-certfile={certificate}",
        f"--ssl-keyfile={key}",
    ]
    flower.flower_supernode()


def show_certificate(settings: SiteSettings) -> None:
    """Make all of this process's calls to the coordinator present the site's certificate."""
    from flwr.supernode.fleet_http_client import FleetHttpClient

    def from_server_address(
        address: str, insecure: bool, root_certificates: object, interceptors: Sequence[Any], **options: Any
    ) -> FleetHttpClient:
        assert not insecure
        return FleetHttpClient(f"https://{address}", interceptors=interceptors, verify=tls_context(settings), **options)

    FleetHttpClient.from_server_address = from_server_address  # type: ignore[method-assign,assignment]


def between(settings: SiteSettings) -> tuple[Path, Path, Path, Path]:
    """New files for the connection between SuperNode and executor: authority, certificate, its key, and the secret.

    Their names are relative to the site's folder, in which this runs, because an error may be sent to the coordinator.
    """
    folder = settings.flower / _RUNTIME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    authority = Authority.new("fedpolyp, between a SuperNode and its executor")
    key, certificate = authority.server_certificate([HOST])
    contents = {
        "ca.crt": certificate_pem(authority.certificate),
        "server.crt": certificate_pem(certificate),
        "server.key": key_pem(key),
        "secret": secrets.token_bytes(32),
    }
    for name, content in contents.items():
        write_secret(folder / name, content)
    seen = folder.relative_to(settings.folder)
    ca, crt, private, secret = (seen / name for name in contents)
    return ca, crt, private, secret


def executor(address: str, authority: Path, secret: Path) -> None:
    """Start the executor; when it ends, so does this process, which would accept requests that nobody carries out."""
    command = [sys.executable, "-P", "-m", "fedpolyp.cli.executor", f"--runtime-api-address={address}"]
    options = [f"--root-certificates={authority}", f"--superexec-auth-secret-file={secret}"]
    process = subprocess.Popen([*command, *options, f"--parent-pid={os.getpid()}"])
    threading.Thread(target=_end_after, args=(process.wait,), daemon=True).start()


def _end_after(wait: Callable[[], Any]) -> None:
    wait()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
