"""The folders of a federation: one for each party, with what it needs and nothing that belongs to another."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fedpolyp.config import CHECKED
from fedpolyp.errors import UsageError
from fedpolyp.files import replacing, write_text
from fedpolyp.sites import certificates, recipes
from fedpolyp.sites.certificates import Authority, certificate_pem, key_pem, write_secret
from fedpolyp.sites.limits import Limits
from fedpolyp.sites.names import check_host, check_names
from fedpolyp.sites.roster import write_mask_key, write_roster
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings, Split
from fedpolyp.sites.table import Table

LOOPBACK = ("localhost", "127.0.0.1")
_PRIVATE = "This site's files: its ingested images, its part of each run, its audit log. None of them is sent.\n"


def make_federation(out: Path, host: str, port: int, sites: Sequence[str], make_keys: bool = True) -> None:
    """Make `out` with a folder for the authority, the coordinator and each site; with `make_keys` their keys, too.

    Raises:
        UsageError: `out` already exists, or a name is not allowed.
    """
    check_host(host)
    check_names(list(sites))
    if out.exists():
        raise UsageError(f"{out} already exists; choose another --out")
    try:
        out.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"cannot make {out}: {error.strerror}") from None
    authority = Authority.new(f"fedpolyp authority of {host}")
    _write_authority(out / "authority", authority)
    _write_coordinator(out / "coordinator", authority, host, port, sites)
    coordinator = CoordinatorSettings.load(out / "coordinator")
    for site in sites:
        folder = out / site
        _write_site(folder, authority, host, port, site)
        if make_keys:
            public = certificates.write_site_key(folder / "site.key", site)
            shutil.copyfile(public, coordinator.public_key(site))
            certified, settings = _certify(authority, coordinator, site), SiteSettings.load(folder / "site.toml")
            shutil.copyfile(certified, settings.certificate)
            write_mask_key(settings.mask_key, folder / f"{site}.mask.pub")
            shutil.copyfile(folder / f"{site}.mask.pub", coordinator.public_mask_key(site))
    write_roster(authority, coordinator)


def write_site_keys(settings: SiteSettings) -> list[Path]:
    """Write those of a site's two key pairs that are missing, in its folder; returns the paths of the public ones.

    A site of an older version has a key and no mask key.

    Raises:
        UsageError: there are both already.
    """
    folder, name = settings.folder, settings.name
    made: list[Path] = []
    if not settings.key.exists() or settings.mask_key.exists():
        made.append(certificates.write_site_key(settings.key, name))
    if not settings.mask_key.exists():
        made.append(folder / f"{name}.mask.pub")
        write_mask_key(settings.mask_key, made[-1])
    return made


def renew_certificate(authority_folder: Path, coordinator: Path) -> None:
    """Give the coordinator of the folder `coordinator` a new key and certificate of the same authority and names.

    Both are written completely before either replaces the old one, so an error leaves the old ones in place.

    Raises:
        FedpolypError: a folder is missing or incomplete, or the sites trust another authority.
    """
    authority, settings = _both(authority_folder, coordinator)
    _write_server(settings.folder, authority, settings.host)


def certify_sites(authority_folder: Path, coordinator: Path, sites: Sequence[str]) -> tuple[list[Path], Sequence[str]]:
    """Make certificates for `sites`, for the public keys in the folder `coordinator`, and the roster of mask keys.

    Returns:
        The paths of the certificates, and the sites in the roster.

    Raises:
        FedpolypError: a folder is missing or incomplete, a key is not valid, or the sites trust another authority.
    """
    authority, settings = _both(authority_folder, coordinator)
    check_names(list(sites))
    return [_certify(authority, settings, site) for site in sites], write_roster(authority, settings)


def _both(authority_folder: Path, coordinator: Path) -> tuple[Authority, CoordinatorSettings]:
    authority = Authority.load(authority_folder / "ca.key", authority_folder / "ca.crt")
    settings = CoordinatorSettings.load(coordinator)
    if certificates.read_authority(settings.authority) != authority.certificate:
        raise UsageError(
            f"{authority_folder} is not the authority of {coordinator}, whose ca.crt is of another authority"
        )
    return authority, settings


def _certify(authority: Authority, coordinator: CoordinatorSettings, site: str) -> Path:
    key, file = certificates.read_public_key(coordinator.public_key(site)), coordinator.site_certificate(site)
    write_text(file, certificate_pem(authority.site_certificate(site, key)).decode())
    return file


def _write_authority(folder: Path, authority: Authority) -> None:
    folder.mkdir(mode=0o700)
    write_secret(folder / "ca.key", key_pem(authority.key))
    (folder / "ca.crt").write_bytes(certificate_pem(authority.certificate))


def _write_coordinator(folder: Path, authority: Authority, host: str, port: int, sites: Sequence[str]) -> None:
    (folder / "sites").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    (folder / "ca.crt").write_bytes(certificate_pem(authority.certificate))
    _write_server(folder, authority, host)
    names = ", ".join(f'"{site}"' for site in sites)
    (folder / "coordinator.toml").write_text(
        f'host = "{host}"\nport = {port}  # where sites connect\nsites = [{names}]\n'
        f"control_port = {CoordinatorSettings.model_fields['control_port'].default}  # on this machine only\n"
        'held_out = ""  # a folder with images/ and masks/ that no site has; without it, the sites\' tests count\n'
        'runs = "runs"  # where run folders are made\n',
        encoding="utf-8",
    )
    for name, text in recipes.of_coordinator(port).items():
        _write_recipe(folder / name, text)


def _write_server(folder: Path, authority: Authority, host: str) -> None:
    key, certificate = authority.server_certificate(list(dict.fromkeys([host, *LOOPBACK])))
    with replacing(folder / "server.crt", 0o644) as public, replacing(folder / "server.key", 0o600) as secret:
        for stream, content in ((secret, key_pem(key)), (public, certificate_pem(certificate))):
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # a full disk fails here, with the old files in place


def _write_site(folder: Path, authority: Authority, host: str, port: int, site: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / "ca.crt").write_bytes(certificate_pem(authority.certificate))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    (folder / "site.toml").write_text(
        f'name = "{site}"\ncoordinator = "{address}"\ndata = ""  # the folder with images/ and masks/\n'
        f'masks = "{CHECKED}"  # {_about("masks")}\n'
        f"# lesion_values =  # {_about('lesion_values')}\n"
        f"# group_by =  # {_about('group_by')}\n"
        f"# declared_units =  # {_about('declared_units')}\n"
        f"# declared_test_units =  # {_about('declared_test_units')}\n"
        f"\n# The most that the coordinator may ask for.\n[limits]\n{_explained(Limits())}"
        f"\n# How the images are split; the same in every run.\n[split]\n{_explained(Split())}",
        encoding="utf-8",
    )
    private = SiteSettings.load(folder / "site.toml").private
    private.mkdir(mode=0o700)
    (private / "README").write_text(_PRIVATE, encoding="utf-8")  # an archive would leave out an empty folder
    for name, text in recipes.of_site(site, host, port).items():
        _write_recipe(folder / name, text)


def _about(setting: str) -> str:
    return SiteSettings.model_fields[setting].description or ""


def _write_recipe(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if path.name == "start" else 0o644)


def _explained(table: Table) -> str:
    lines = []
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        shown = json.dumps(value) if isinstance(value, str | tuple | bool) else value
        line = f"# {name} =" if value is None else f"{name} = {shown}"
        lines.append(f"{line:<23} # {field.description}\n")
    return "".join(lines)
