"""`fedpolyp site status`: the connected sites."""

from pathlib import Path

from fedpolyp.cli import flower
from fedpolyp.cli.site.options import CoordinatorFolder, PrintCommand, screen, show
from fedpolyp.cli.tables import plain_table
from fedpolyp.sites.settings import CoordinatorSettings


def status(folder: CoordinatorFolder = Path("."), print_command: PrintCommand = False) -> None:
    """Show which sites are connected, and the last action of each."""
    from fedpolyp.runs import RunFolder
    from fedpolyp.sites.progress import last_doings

    settings = CoordinatorSettings.load(folder)
    if print_command:
        show(flower.control(settings, "supernode", "list", flower.CONNECTION))
        return
    nodes = {node.site: node for node in flower.nodes(settings) if node.let_in}
    sites = [*settings.sites, *sorted(nodes.keys() - set(settings.sites))]
    folders = sorted(settings.runs_folder.glob("*/progress.jsonl"), key=lambda file: file.stat().st_mtime)
    doings = dict(last_doings(RunFolder(folders[-1].parent), sites)) if folders else {}
    newest = f", last in {folders[-1].parent.name}" if folders else ""
    table = plain_table(None, "site", "state", "since (UTC)", f"what it did{newest}", numbers_from=99)
    for site in sites:
        node = nodes.get(site)
        state, since = ("not registered", "") if node is None else (node.state, node.since[:19].replace("T", " "))
        table.add_row(site, state, since, doings.get(site, ""))
    screen().print(table)
