"""Flower's own programs: which are started, with which arguments and in which environment."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedpolyp.cli.supernode import HOST
from fedpolyp.errors import FedpolypError
from fedpolyp.files import write_text
from fedpolyp.sites.certificates import certificate_pem, read_authority
from fedpolyp.sites.handover import COORDINATOR
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings

CONNECTION = "coordinator"  # the name of the coordinator's own SuperLink in Flower's config
# Flower checks once a second by default whether there is work; that would be lost at every message.
_POLL_SECONDS = "0.3"
# What a SuperNode prints when it is admitted, and when it is not.
_LET_IN = "SuperNode ID:"
_REFUSED = "Exit Code: 305"
# What it prints before it stops asking for messages without ending, or after it has lost a message that is awaited.
_DEAF = ("SSL/TLS handshake error detected", "Failed to send message", "Failed to receive message")
_TAKEN_OUT = "unregistered"
_NO_ANSWER = "the coordinator does not answer: is 'fedpolyp site serve' running?"


@dataclass(frozen=True)
class Node:
    """A site in the SuperLink's list; a removed site stays in the list, so that its key is never admitted again."""

    id: int
    site: str
    key: bytes  # public, in PEM
    state: str  # 'registered' (and never seen), 'online', 'offline' or 'unregistered'
    since: str

    @property
    def let_in(self) -> bool:
        """Whether its key is admitted."""
        return self.state != _TAKEN_OUT


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and additions to its environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # the folder in which it runs, if not the current one
    first_words: str = "\n"  # after this output it was admitted; by default, after any
    refused_words: str = "\0"  # after this output it was not admitted
    last_words: tuple[str, ...] = ()  # after one of these outputs it is useless, though it may keep running

    def shown(self) -> str:
        """The command as a user would type it."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        there = [] if self.folder is None else [f"cd {shlex.quote(str(self.folder))} &&"]
        return " ".join([*there, *settings, shlex.join(self.arguments)])

    def start(self, **options: Any) -> "subprocess.Popen[bytes]":
        """Start it; its programs are found beside this Python.

        Raises:
            FedpolypError: there is no such program.
        """
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        program = shutil.which(self.arguments[0], path=path)
        if program is None:
            raise FedpolypError(f"there is no program '{self.arguments[0]}' on PATH")
        environment = os.environ | dict(self.environment) | {"PATH": path}
        return subprocess.Popen([program, *self.arguments[1:]], env=environment, cwd=self.folder, **options)

    def answer(self) -> Any:
        """Run it and return the JSON object that it prints.

        Raises:
            FedpolypError: it failed; the message has its output.
        """
        process = self.start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said, complained = (part.decode(errors="replace") for part in process.communicate())
        try:
            plain = json.loads(said[said.index("{") :])
        except ValueError:
            plain = {"success": False, "error-message": (complained or said).strip()}
        if process.returncode or not plain.get("success", False):
            why = str(plain.get("error-message") or complained.strip() or "it did not say why")
            if "Connection to the SuperLink is unavailable" in why:
                raise FedpolypError(_NO_ANSWER)
            raise FedpolypError(f"'{' '.join(self.arguments[:3])}' failed: {' '.join(why.split())}")
        return plain


def superlink(settings: CoordinatorSettings) -> Command:
    """The SuperLink, on loopback; sites can reach a part of it, but not its control API, which has no login.

    It is started by `fedpolyp.cli.superlink`, which refuses messages in another site's name, and messages that are too
    large.
    """
    return Command(
        (
            sys.executable,
            "-P",
            "-m",
            "fedpolyp.cli.superlink",
            str(settings.folder),
            "--host=127.0.0.1",
            f"--port={settings.control_port}",
            f"--ssl-ca-certfile={settings.authority}",
            f"--ssl-certfile={settings.certificate}",
            f"--ssl-keyfile={settings.key}",
            "--enable-supernode-auth",
            f"--database={settings.database}",
            "--isolation=subprocess",
            "--disable-runtime-dependency-installation",
        ),
        _environment(settings.flower) | {COORDINATOR: str(settings.folder)},
    )


def supernode(settings: SiteSettings, site_file: Path, port: int) -> Command:
    """The SuperNode of a site; it tells the ClientApp the path of site.toml and of the images.

    It is started by `fedpolyp.cli.supernode`, which presents the site's certificate and guards its port. If Flower
    cannot unpack or load a program, it sends the coordinator the system's message, with the path: so its folder is
    given under a name that reveals nothing about this machine.
    """
    named = f'site="{site_file.resolve()}" data="{settings.images.resolve()}"'
    return Command(
        (
            sys.executable,
            "-P",
            "-m",
            "fedpolyp.cli.supernode",
            str(settings.folder),
            f"--superlink={settings.coordinator}",
            f"--root-certificates={settings.authority}",
            f"--auth-supernode-private-key={settings.key}",
            f"--host={HOST}",
            f"--port={port}",
            f"--node-config={named}",
        ),
        _environment(Path("/proc/self/cwd") / settings.flower.relative_to(settings.folder)),
        settings.folder,
        _LET_IN,
        _REFUSED,
        _DEAF,
    )


def register(settings: CoordinatorSettings, site: str) -> Command:
    """Register a site's public key with the SuperLink."""
    return control(
        settings,
        "supernode",
        "register",
        str(settings.public_key(site)),
        CONNECTION,
        "--name",
        site,
        "--format",
        "json",
    )


def unregister(settings: CoordinatorSettings, node: Node) -> Command:
    """Remove a site's key for good: the SuperLink refuses it from now on."""
    return control(settings, "supernode", "unregister", str(node.id), CONNECTION, "--format", "json")


def nodes(settings: CoordinatorSettings) -> list[Node]:
    """All sites that the SuperLink knows, in the order of registration.

    `flwr supernode list` prints neither their names nor their keys, so this sends the same request itself.

    Raises:
        FedpolypError: the SuperLink does not answer.
        UsageError: the authority's certificate cannot be trusted.
    """
    # Imported only here: this part of Flower is slow to load, and no other command needs it.
    import httpx
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.supercore.control import ControlHttpClient

    address, authority = f"127.0.0.1:{settings.control_port}", certificate_pem(read_authority(settings.authority))
    client = ControlHttpClient.from_server_address(address, False, authority, ())
    try:
        found = client.ListNodes(ListNodesRequest()).nodes_info
    except httpx.TransportError:
        raise FedpolypError(_NO_ANSWER) from None
    except httpx.HTTPError as error:
        raise FedpolypError(f"the coordinator's SuperLink does not list its sites: {error}") from None
    finally:
        client.close()
    since = {"online": "last_activated_at", "offline": "last_deactivated_at"}
    return [
        Node(node.node_id, node.name, node.public_key, node.status, getattr(node, since.get(node.status, ""), ""))
        for node in sorted(found, key=lambda node: node.registered_at)
    ]


def submit(settings: CoordinatorSettings, app: Path, run: str) -> Command:
    """Start the app in folder `app` on the run that was handed over as `run`, a name that every site is told."""
    chosen = f"sites={json.dumps(run)}"
    return control(settings, "run", str(app), CONNECTION, "--run-config", chosen, "--format", "json")


def control(settings: CoordinatorSettings, *arguments: str) -> Command:
    """`flwr` with these arguments, which may name the connection `CONNECTION`."""
    return Command(("flwr", *arguments), _environment(settings.flower))


def write_connection(settings: CoordinatorSettings) -> None:
    """Tell `flwr` the address of the coordinator's SuperLink, and the authority to trust.

    Raises:
        UsageError: the authority's certificate cannot be trusted.
    """
    read_authority(settings.authority)
    write_text(
        settings.flower / "config.toml",
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{settings.control_port}"\nroot-certificates = {json.dumps(str(settings.authority))}\n',
    )


def quoted_safely(paths: Sequence[Path]) -> bool:
    """Whether these paths can be passed to Flower, which splits settings at quotation marks."""
    return not any(mark in str(path) for path in paths for mark in "\"'\\\n")


def _environment(home: Path) -> dict[str, str]:
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _POLL_SECONDS,
    }
