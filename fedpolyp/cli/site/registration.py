"""`fedpolyp site register` and `unregister`: the sites that the coordinator's programs let in."""

from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.site.options import CoordinatorFolder, PrintCommand, screen, show
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.sites.names import check_names
from fedpolyp.sites.settings import CoordinatorSettings


def register(
    sites: Annotated[list[str] | None, typer.Argument(help="sites with a file sites/NAME.pub; default: all")] = None,
    folder: CoordinatorFolder = Path("."),
    print_command: PrintCommand = False,
) -> None:
    """Register sites, by the public keys in the coordinator's folder; the coordinator must be serving.

    A site whose public key has changed is registered with the new one; its old one is refused from then on.
    """
    from fedpolyp.sites.certificates import public_key_pem, read_certificate, read_public_key

    settings = CoordinatorSettings.load(folder)
    names = sites or list(settings.sites)
    check_names(names)
    for name in names:
        if name not in settings.sites:
            raise UsageError(f"'{name}' is not among the sites in coordinator.toml: {', '.join(settings.sites)}")
    keys = {name: public_key_pem(read_public_key(settings.public_key(name))) for name in names}
    for name in names:
        certificate = settings.site_certificate(name)
        if not certificate.exists():
            raise UsageError(f"{certificate} is missing: 'fedpolyp site certify {name}' makes it")
        if public_key_pem(read_certificate(certificate).public_key()) != keys[name]:
            raise UsageError(f"{certificate} is for another key: 'fedpolyp site certify {name}' makes one for this")
    if print_command:
        show(*(flower.register(settings, name) for name in names))
        return
    flower.write_connection(settings)
    known = flower.nodes(settings)
    refused = []
    for name, key in keys.items():
        holder = next((node for node in known if node.key == key), None)
        if holder is not None and (holder.site != name or not holder.let_in):
            whose = f"{'the' if holder.let_in else 'a former'} key of {holder.site}"
            refused.append(f"{settings.public_key(name)} is {whose}")
            continue
        _take_out(settings, [node for node in known if node.site == name and node.let_in and node.key != key])
        if holder is None:
            flower.register(settings, name).answer()
        screen().print(f"{name} is registered")
    if refused:
        raise FedpolypError(
            f"{'; '.join(refused)}; a removed key is never registered again: make a new one with 'fedpolyp site "
            "keygen', after removing "
            "the old files"
        )


def unregister(
    sites: Annotated[list[str], typer.Argument(help="the sites' names")],
    folder: CoordinatorFolder = Path("."),
    print_command: PrintCommand = False,
) -> None:
    """Remove sites for good: a site can come back only with a new key. The coordinator must be serving."""
    settings = CoordinatorSettings.load(folder)
    flower.write_connection(settings)
    let_in = [node for node in flower.nodes(settings) if node.let_in]
    for name in sites:
        if name not in {node.site for node in let_in}:
            known = ", ".join(sorted({node.site for node in let_in})) or "none is"
            raise UsageError(f"'{name}' is not among the registered sites: {known}")
    chosen = [node for node in let_in if node.site in sites]
    if print_command:
        show(*(flower.unregister(settings, node) for node in chosen))
        return
    _take_out(settings, chosen)
    for name in sites:
        settings.site_certificate(name).unlink(missing_ok=True)  # nginx does not accept it any more, either
        screen().print(f"{name} is no longer registered")


def _take_out(settings: CoordinatorSettings, nodes: list[flower.Node]) -> None:
    for node in nodes:
        flower.unregister(settings, node).answer()
