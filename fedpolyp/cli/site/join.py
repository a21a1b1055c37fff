"""`fedpolyp site join`: a site's program."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.site.options import Data, Folder, PrintCommand, screen, show, site_of
from fedpolyp.cli.supervise import keep_running


def join(
    folder: Folder = Path("."),
    data: Data = None,
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65535, help="port on loopback for Flower's own programs; another for each site on this machine"
        ),
    ] = 9094,
    print_command: PrintCommand = False,
) -> None:
    """Join the federation and stay until stopped: Flower's SuperNode, restarted whenever it ends."""
    from clients import worker
    from fedpolyp.files import sole
    from fedpolyp.sites.connection import faults_of
    from fedpolyp.sites.programs import SentPrograms

    settings, say = site_of(folder, data), screen().print
    node = flower.supernode(settings, folder / "site.toml", port)
    if print_command:
        show(node)
        return
    os.umask(0o077)  # only this user may read what is made of the images, wherever the folder came from
    for made in (settings.private, settings.flower):
        made.mkdir(exist_ok=True)
    with sole(settings.private / ".lock", f"'site join' is already running in {settings.folder}"):
        say(f"{settings.name} joins {settings.coordinator}; stop with Ctrl-C")
        os.environ[worker.JOINED] = str(os.getpid())
        ours, programs = settings.flower / worker.FILE, SentPrograms(settings, say)
        worker.end(ours)  # left by a killed start of this site, which may also have left a half-unpacked program
        programs.throw_away()
        try:
            keep_running(node, lambda: faults_of(settings), say, programs.heed)
        finally:
            worker.end(ours)
