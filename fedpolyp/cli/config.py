"""`fedpolyp config`: the effective config as TOML, each value with its meaning."""

import typer

from fedpolyp.cli.options import Given, with_settings
from fedpolyp.config import to_toml


@with_settings()
def config(given: Given) -> None:
    """Print the config that results from the given options, as TOML with each value's meaning."""
    typer.echo(to_toml(given.config(), explain=True), nl=False)
