"""`fedpolyp site check`: what is to be mended before a site joins."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli.site.options import Data, Folder, screen, site_of
from fedpolyp.errors import FedpolypError


def check(
    folder: Folder = Path("."),
    data: Data = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of the experiment to expect, as 'fedpolyp config' prints it")
    ] = None,
) -> None:
    """Before joining: check the images, one training step, the memory, the connection, the certificate, the clock."""
    from fedpolyp.config import read
    from fedpolyp.sites.check import checks

    settings, console, bad = site_of(folder, data), screen(), 0
    os.umask(0o077)  # as in 'join': it ingests the images
    for finding in checks(settings, None if config is None else read(config)):
        bad += not finding.good
        console.print(f"{'ok  ' if finding.good else 'FIX '}  {finding.about}: {finding.text}")
    if bad:
        raise FedpolypError(f"{bad} problem{'s' * (bad > 1)} to fix before joining")
