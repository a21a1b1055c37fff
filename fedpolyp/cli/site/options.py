"""The options of several commands of `fedpolyp site`, and what these commands print."""

from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.console import PlainConsole
from fedpolyp.errors import UsageError
from fedpolyp.sites.settings import SiteSettings

Folder = Annotated[Path, typer.Option(help="the site's folder, with site.toml")]
CoordinatorFolder = Annotated[Path, typer.Option(help="the coordinator's folder, with coordinator.toml")]
PrintCommand = Annotated[bool, typer.Option("--print-command", help="print the command, and do not run it")]
Data = Annotated[Path | None, typer.Option(help="folder of images, instead of the one in site.toml")]


def site_of(folder: Path, data: Path | None) -> SiteSettings:
    """The settings of the site in `folder`, ready to join; its images are in `data` if that is given.

    Raises:
        UsageError: images, key or certificate are missing, or Flower cannot be told where the images are.
    """
    from fedpolyp.sites.connection import ASK_FOR_ONE

    file = folder / "site.toml"
    settings = SiteSettings.load(file, "" if data is None else str(data.expanduser().resolve()))
    if not settings.data:
        raise UsageError(f"{file} does not name a folder of images: set 'data' there, or give --data")
    if not settings.key.exists():
        raise UsageError(f"{settings.key} is missing: 'fedpolyp site keygen --folder {folder}' makes it")
    if not settings.certificate.exists():
        raise UsageError(f"{settings.certificate} is missing; {ASK_FOR_ONE}")
    if not flower.quoted_safely([file.resolve(), settings.images]):
        raise UsageError(f"Flower cannot be told a path with quotation marks or backslashes: {settings.images}")
    return settings


def show(*commands: flower.Command) -> None:
    """Print the commands instead of running them."""
    for command in commands:
        typer.echo(command.shown())


def screen() -> PlainConsole:
    """The screen, for lines of any length."""
    return PlainConsole(soft_wrap=True)
