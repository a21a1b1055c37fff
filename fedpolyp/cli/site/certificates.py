"""`fedpolyp site init`, `keygen`, `certify` and `renew`: the folders, keys and certificates of all parties."""

from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli.site.options import Folder, screen
from fedpolyp.errors import UsageError
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings

Out = Annotated[Path | None, typer.Option(help="the folder that 'site init' made, which contains both others")]
AuthorityFolder = Annotated[Path | None, typer.Option(help="the authority's folder  [dim]\\[OUT/authority][/dim]")]
AuthoritysCoordinator = Annotated[
    Path | None, typer.Option(help="the coordinator's folder  [dim]\\[OUT/coordinator][/dim]")
]


def init(
    coordinator: Annotated[str, typer.Option(help="host name or IP address at which sites reach the coordinator")],
    sites: Annotated[str, typer.Option(help="the sites' names, separated by commas")],
    out: Annotated[Path, typer.Option(help="folder to make")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="port at which sites reach the coordinator")] = 9443,
    keys: Annotated[bool, typer.Option(help="make the sites' keys here, not at the sites")] = True,
) -> None:
    """Make certificates, keys and a folder for each party."""
    from fedpolyp.sites.folders import make_federation

    names = [name.strip() for name in sites.split(",")]
    make_federation(out, coordinator, port, names, keys)
    console = screen()
    console.print(f"{out / 'authority'}: keep it offline; you need it again only to renew the certificate")
    console.print(f"{out / 'coordinator'}: for the machine that {coordinator} names; fedpolyp site serve")
    for name in names:
        key = "give it to that hospital in a safe way: it holds a secret key" if keys else "fedpolyp site keygen there"
        console.print(f"{out / name}: {key}")


def renew(
    out: Out = None,
    authority: AuthorityFolder = None,
    coordinator: AuthoritysCoordinator = None,
) -> None:
    """Give the coordinator a new certificate of the same authority; sites need not change anything."""
    from fedpolyp.sites.folders import renew_certificate

    authority, coordinator = _folders(out, authority, coordinator)
    renew_certificate(authority, coordinator)
    screen().print(f"{coordinator}: server.crt and server.key are new; restart 'fedpolyp site serve'")


def keygen(folder: Folder) -> None:
    """Make a site's keys at the site, so that only the public keys are ever sent; existing ones are kept."""
    from fedpolyp.sites.folders import write_site_keys

    settings = SiteSettings.load(folder / "site.toml")
    public, console = " and ".join(map(str, write_site_keys(settings))), screen()
    console.print(f"send {public} to the coordinator, who puts them into sites/, certifies and registers the site:")
    console.print(f"fedpolyp site certify {settings.name}; fedpolyp site register {settings.name}")
    console.print(f"the certificate comes back to you, as {settings.certificate}")


def certify(
    sites: Annotated[list[str] | None, typer.Argument(help="sites with a file sites/NAME.pub; default: all")] = None,
    out: Out = None,
    authority: AuthorityFolder = None,
    coordinator: AuthoritysCoordinator = None,
) -> None:
    """Make certificates for the sites' public keys in the coordinator's folder, and sign the roster of mask keys."""
    from fedpolyp.sites.folders import certify_sites

    authority, coordinator = _folders(out, authority, coordinator)
    names = sites or list(CoordinatorSettings.load(coordinator).sites)
    files, masking = certify_sites(authority, coordinator, names)
    for name, file in zip(names, files, strict=True):
        screen().print(f"{file}: send it to {name}, where it becomes site.crt; it holds no secret")
    if masking:
        screen().print(f"{CoordinatorSettings.load(coordinator).roster}: the mask keys of {', '.join(masking)}")


def _folders(out: Path | None, authority: Path | None, coordinator: Path | None) -> tuple[Path, Path]:
    if out is not None:
        authority, coordinator = authority or out / "authority", coordinator or out / "coordinator"
    if authority is None or coordinator is None:
        raise UsageError("give --out with the folder that 'site init' made, or both --authority and --coordinator")
    return authority, coordinator
