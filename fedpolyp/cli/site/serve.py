"""`fedpolyp site serve`: the coordinator's programs."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.site.options import CoordinatorFolder, PrintCommand, screen, show
from fedpolyp.cli.supervise import serve_until_stopped
from fedpolyp.errors import FedpolypError
from fedpolyp.sites.settings import CoordinatorSettings

if TYPE_CHECKING:
    import subprocess


def serve(
    folder: CoordinatorFolder = Path("."),
    listen: Annotated[str, typer.Option(help="address to listen on; if empty, all addresses of this machine")] = "",
    print_command: PrintCommand = False,
) -> None:
    """Serve the federation until stopped: Flower's SuperLink on loopback, and nginx, which sites reach, before it."""
    from fedpolyp.files import sole, write_text
    from fedpolyp.sites import proxy
    from fedpolyp.sites.certificates import check_pair, read_authority

    settings, say = CoordinatorSettings.load(folder), screen().print
    work = proxy.work_folder(settings)
    config = work / "nginx.conf"
    link = flower.superlink(settings)
    gate = flower.Command(("nginx", "-e", "stderr", "-c", str(config)), folder=work)
    if print_command:
        show(link, gate)
        return
    read_authority(settings.authority)
    check_pair(settings.key, settings.certificate)
    seen = proxy.stamps(settings)
    wanted = proxy.nginx_config(settings, listen)

    def follow(running: Sequence["subprocess.Popen[bytes]"]) -> None:
        nonlocal seen
        if (now := proxy.stamps(settings)) == seen:
            return
        seen = now
        try:
            write_text(config, proxy.nginx_config(settings, listen))
        except (FedpolypError, OSError) as error:  # admitted sites stay admitted
            say(str(error))
            return
        running[1].send_signal(signal.SIGHUP)
        known, faults = proxy.let_in(settings)
        for said in (*faults, f"admitted by their certificates: {', '.join(known) or 'nobody'}"):
            say(said)

    work.mkdir(exist_ok=True)
    with sole(work / ".lock", f"'site serve' is already running in {settings.folder}"):
        proxy.make_work_folder(settings)
        write_text(config, wanted)
        for fault in proxy.let_in(settings)[1]:
            say(fault)
        settings.flower.mkdir(mode=0o700, exist_ok=True)
        flower.write_connection(settings)
        say(f"serving {', '.join(settings.sites)} on port {settings.port}; stop with Ctrl-C")
        serve_until_stopped([link, gate], follow)
