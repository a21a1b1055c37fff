"""`fedpolyp site log`: a site's audit log."""

from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from fedpolyp.cli.site.options import Folder, screen
from fedpolyp.cli.tables import plain_table
from fedpolyp.errors import FedpolypError
from fedpolyp.sites.settings import SiteSettings
from fedpolyp.text import printable


def log(
    folder: Folder = Path("."),
    last: Annotated[int, typer.Option(min=1, help="how many of the newest entries to show")] = 50,
) -> None:
    """Show this site's requests and replies, and whether the log was changed afterwards."""
    from fedpolyp.sites import audit

    settings, console = SiteSettings.load(folder / "site.toml"), screen()
    newest: deque[audit.Entry] = deque(maxlen=last)
    first_fault = None
    for entry in audit.read(settings.audit):
        newest.append(entry)
        if entry.fault and first_fault is None:
            first_fault = entry
    table = plain_table(None, "time", "what", "message", "round", "bytes", "sha256 of the arrays", numbers_from=99)
    for entry in newest:
        said = {name: printable(value, 200) for name, value in entry.content.items() if value is not None}
        what = f"CHANGED: {entry.fault}" if entry.fault else said.get("event", "")
        message = " ".join(said[name] for name in ("message", "set") if said.get(name))
        detail = said.get("reason") or said.get("sha256", "")[:16]
        table.add_row(said.get("time", "")[:19], what, message, said.get("round", ""), said.get("bytes", ""), detail)
    console.print(table)
    if first_fault is not None:
        raise FedpolypError(f"{settings.audit} was changed: line {first_fault.number} was {first_fault.fault}")
    if newest:
        console.print(
            f"{newest[-1].number} entries, none changed; the last is {newest[-1].content['hash']}", soft_wrap=True
        )
    else:
        console.print("no entries yet")
