"""`fedpolyp site`: the same federation at real hospitals, from certificates to the run."""

import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.cli.supervise import keep_running, serve_until_stopped
from fedpolyp.cli.tables import ending, plain_table, round_table
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.privacy.words import NO_HELD_OUT, beginning, paragraph
from fedpolyp.sites.settings import CoordinatorSettings, SiteSettings, check_names
from fedpolyp.text import printable

if TYPE_CHECKING:
    import subprocess

    from fedpolyp.runs import RunFolder

app = typer.Typer(help="Take a federation to real hospitals: the same code at separate sites.", no_args_is_help=True)

_OF_TRAINING = ("model", "training", "algorithm")  # sections that are not used if nothing is trained

Folder = Annotated[Path, typer.Option(help="the site's folder, with site.toml")]
CoordinatorFolder = Annotated[Path, typer.Option(help="the coordinator's folder, with coordinator.toml")]
PrintCommand = Annotated[bool, typer.Option("--print-command", help="print the command, and do not run it")]
Out = Annotated[Path | None, typer.Option(help="the folder that 'site init' made, which contains both others")]
AuthorityFolder = Annotated[Path | None, typer.Option(help="the authority's folder  [dim]\\[OUT/authority][/dim]")]
AuthoritysCoordinator = Annotated[
    Path | None, typer.Option(help="the coordinator's folder  [dim]\\[OUT/coordinator][/dim]")
]
Data = Annotated[Path | None, typer.Option(help="folder of images, instead of the one in site.toml")]


@app.command()
def init(
    coordinator: Annotated[str, typer.Option(help="host name or IP address at which sites reach the coordinator")],
    sites: Annotated[str, typer.Option(help="the sites' names, separated by commas")],
    out: Annotated[Path, typer.Option(help="folder to make")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="that sites reach")] = 9443,
    keys: Annotated[bool, typer.Option(help="make the sites' keys here, not at the sites")] = True,
) -> None:
    """Make certificates, keys and a folder for each party."""
    from fedpolyp.sites.folders import make_federation

    names = [name.strip() for name in sites.split(",")]
    make_federation(out, coordinator, port, names, keys)
    console = _console()
    console.print(f"{out / 'authority'}: keep it offline; you need it again only to renew the certificate")
    console.print(f"{out / 'coordinator'}: for the machine that {coordinator} names; fedpolyp site serve")
    for name in names:
        key = "give it to that hospital in a safe way: it holds a secret key" if keys else "fedpolyp site keygen there"
        console.print(f"{out / name}: {key}")


@app.command()
def renew(
    out: Out = None,
    authority: AuthorityFolder = None,
    coordinator: AuthoritysCoordinator = None,
) -> None:
    """Give the coordinator a new certificate of the same authority; sites need not change anything."""
    from fedpolyp.sites.folders import renew_certificate

    authority, coordinator = _folders(out, authority, coordinator)
    renew_certificate(authority, coordinator)
    _console().print(f"{coordinator}: server.crt and server.key are new; restart 'fedpolyp site serve'")


@app.command()
def keygen(folder: Folder) -> None:
    """Make a site's keys at the site, so that only the public keys are ever sent; existing ones are kept."""
    from fedpolyp.sites.folders import write_site_keys

    settings = SiteSettings.load(folder / "site.toml")
    public, console = " and ".join(map(str, write_site_keys(settings))), _console()
    console.print(f"send {public} to the coordinator, who puts them into sites/, certifies and registers the site:")
    console.print(f"fedpolyp site certify {settings.name}; fedpolyp site register {settings.name}")
    console.print(f"the certificate comes back to you, as {settings.certificate}")


@app.command()
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
        _console().print(f"{file}: send it to {name}, where it becomes site.crt; it holds no secret")
    if masking:
        _console().print(f"{CoordinatorSettings.load(coordinator).roster}: the mask keys of {', '.join(masking)}")


@app.command()
def serve(
    folder: CoordinatorFolder = Path("."),
    listen: Annotated[str, typer.Option(help="address to listen on; if empty, all addresses of this machine")] = "",
    print_command: PrintCommand = False,
) -> None:
    """Serve the federation until stopped: Flower's SuperLink on loopback, and nginx, which sites reach, before it."""
    from fedpolyp.files import sole, write_text
    from fedpolyp.sites import proxy
    from fedpolyp.sites.certificates import check_pair, read_authority

    settings, say = CoordinatorSettings.load(folder), _console().print
    work = proxy.work_folder(settings)
    config = work / "nginx.conf"
    link = flower.superlink(settings)
    gate = flower.Command(("nginx", "-e", "stderr", "-c", str(config)), folder=work)
    if print_command:
        _print(link, gate)
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
    with sole(work / ".lock", f"'site serve' is running in {settings.folder} already"):
        proxy.make_work_folder(settings)
        write_text(config, wanted)
        for fault in proxy.let_in(settings)[1]:
            say(fault)
        settings.flower.mkdir(mode=0o700, exist_ok=True)
        flower.write_connection(settings)
        say(f"serving {', '.join(settings.sites)} on port {settings.port}; stop with Ctrl-C")
        serve_until_stopped([link, gate], follow)


@app.command()
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
        _print(*(flower.register(settings, name) for name in names))
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
        _console().print(f"{name} is registered")
    if refused:
        raise FedpolypError(
            f"{'; '.join(refused)}; a removed key is never registered again: make a new one with 'fedpolyp site "
            "keygen', after removing "
            "the old files"
        )


@app.command()
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
        _print(*(flower.unregister(settings, node) for node in chosen))
        return
    _take_out(settings, chosen)
    for name in sites:
        settings.site_certificate(name).unlink(missing_ok=True)  # nginx does not accept it any more, either
        _console().print(f"{name} is not registered any more")


@app.command()
def join(
    folder: Folder = Path("."),
    data: Data = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="on loopback, for Flower's own programs; one for each site here")
    ] = 9094,
    print_command: PrintCommand = False,
) -> None:
    """Join the federation and stay until stopped: Flower's SuperNode, restarted whenever it ends."""
    from clients import worker
    from fedpolyp.files import sole
    from fedpolyp.sites.connection import faults_of
    from fedpolyp.sites.programs import SentPrograms

    settings, say = _site(folder, data), _console().print
    node = flower.supernode(settings, folder / "site.toml", port)
    if print_command:
        _print(node)
        return
    os.umask(0o077)  # only this user may read what is made of the images, wherever the folder came from
    for made in (settings.private, settings.flower):
        made.mkdir(exist_ok=True)
    with sole(settings.private / ".lock", f"'site join' is running in {settings.folder} already"):
        say(f"{settings.name} joins {settings.coordinator}; stop with Ctrl-C")
        os.environ[worker.JOINED] = str(os.getpid())
        ours, programs = settings.flower / worker.FILE, SentPrograms(settings, say)
        worker.end(ours)  # left by a killed start of this site, which may also have left a half-unpacked program
        programs.throw_away()
        try:
            keep_running(node, lambda: faults_of(settings), say, programs.heed)
        finally:
            worker.end(ours)


@app.command()
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

    settings, console, bad = _site(folder, data), _console(), 0
    os.umask(0o077)  # as in 'join': it ingests the images
    for finding in checks(settings, None if config is None else read(config)):
        bad += not finding.good
        console.print(f"{'ok  ' if finding.good else 'MEND'}  {finding.about}: {finding.text}")
    if bad:
        raise FedpolypError(f"{bad} thing{'s' * (bad > 1)} to fix before joining")


@app.command()
def log(
    folder: Folder = Path("."),
    last: Annotated[int, typer.Option(min=1, help="how many of the newest entries to show")] = 50,
) -> None:
    """Show this site's requests and replies, and whether the log was changed afterwards."""
    from fedpolyp.sites import audit

    settings, console = SiteSettings.load(folder / "site.toml"), _console()
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


@app.command()
def status(folder: CoordinatorFolder = Path("."), print_command: PrintCommand = False) -> None:
    """Show which sites are connected, and the last action of each."""
    from fedpolyp.runs import RunFolder
    from fedpolyp.sites.progress import last_doings

    settings = CoordinatorSettings.load(folder)
    if print_command:
        _print(flower.control(settings, "supernode", "list", flower.CONNECTION))
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
    _console().print(table)


@app.command("run")
@with_settings(("", "model", "training", "algorithm", "privacy", "federation", "runtime"))
def run_(
    given: Given,
    folder: CoordinatorFolder = Path("."),
    held_out: Annotated[Path | None, typer.Option(help="folder of images that no site has, to score on")] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder to make  [dim]\\[<coordinator>/runs/<time>][/dim]")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="resume an interrupted run")] = None,
    from_round: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="with --resume: go back to the checkpoint of round N")
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="train nothing: score this model, a run or a .keras file, at every site"),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--app", help="checkout whose code the sites run  [dim]\\[the one in use][/dim]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the last line")] = False,
    print_command: PrintCommand = False,
) -> None:
    """Train at the sites. Call it on the coordinator's machine, in its folder, while 'site serve' runs there.

    It submits the run, follows it, and completes its folder. The run goes on without it: --resume follows a run that is
    still active, completes one that has ended, and resumes one that was interrupted.
    """
    from fedpolyp import runs
    from fedpolyp.cli.following import follow, trained, under_way
    from fedpolyp.sites.certificates import read_authority
    from fedpolyp.sites.handover import hand_over
    from fedpolyp.sites.progress import FileWatcher, progress_file

    settings = CoordinatorSettings.load(folder)
    app_folder = _checkout(source)
    if from_round is not None and resume is None:
        raise UsageError("--from-round needs --resume, which names the run to go back in")
    if not print_command:
        read_authority(settings.authority)
    if resume is None:
        if evaluate is not None:
            given = _to_evaluate(given, evaluate)
        run = _new_run(given, settings, held_out, out, dry=print_command)
        if not (quiet or print_command) and (said := beginning(run.config(), simulated=False)):
            _console().print(said, soft_wrap=True)
    elif out or held_out or evaluate or given.overrides or given.file or given.preset:
        raise UsageError("--resume uses the run as it is, so neither settings nor folders can be given with it")
    else:
        run = runs.find(resume, settings.runs_folder)
        _refuse_simulated(run)
    if print_command:
        _print(flower.submit(settings, app_folder, "NAME-OF-THE-RUN"))
        return
    flower.write_connection(settings)
    if from_round is not None:
        from fedpolyp.runs.going_back import go_back, refuse_unusable

        if at_work := under_way(settings, run):
            raise UsageError(f"{run.path} is still running as Flower's run {at_work}: stop it before going back")
        flower.nodes(settings)  # nothing is changed if no coordinator answers
        with run.locked():
            refuse_unusable(run, run.config().ready(), from_round)
            go_back(run, from_round)
    try:
        if resume is None or not trained(run):
            flower_run = None if resume is None else under_way(settings, run)
            if flower_run is None:
                submitted = flower.submit(settings, app_folder, hand_over(run, settings.folder)).answer()
                flower_run = str(submitted["run-id"])
                FileWatcher(progress_file(run), flower_run).tell("submitted")
            follow(settings, run, flower_run, quiet)
    except FedpolypError as error:
        if (done := len(run.rounds()) - 1) >= 0 and not isinstance(error, (FinalError, UsageError)):
            again = f"fedpolyp site run --folder {folder} --resume {run.path}"
            error.add_note(f"rounds are complete up to {done}; go on with: {again}")
        raise
    _finish(run, quiet)


def _to_evaluate(given: Given, model: Path) -> Given:
    """The settings with which `model` is scored at the sites, besides those `given`.

    Raises:
        UsageError: a given setting would make it another model, or train it.
    """
    from fedpolyp.inference.about import as_settings
    from fedpolyp.inference.predictor import model_file

    own = as_settings(model_file(model).resolve())
    if given.file or given.preset:
        raise UsageError("--evaluate takes its settings from the model, so --config and --preset cannot be given")
    if other := sorted(name for name in given.overrides if name in own or name.split(".")[0] in _OF_TRAINING):
        raise UsageError(
            f"--evaluate trains nothing and takes its model from {model}, so {', '.join(other)} cannot be given"
        )
    return Given(None, None, {**given.overrides, **own})


def _new_run(given: Given, settings: CoordinatorSettings, held_out: Path | None, out: Path | None, dry: bool) -> Any:
    from fedpolyp import runs
    from fedpolyp.config import DataConfig, rated
    from fedpolyp.data.partition.partition import HospitalImages, Partition
    from fedpolyp.model.weights import noted
    from fedpolyp.sites.roster import roster_to_send

    config = rated(noted(given.config()))
    if simulated := config.federation.simulated_only:
        raise UsageError(f"{', '.join(simulated)} is for simulations only, not for real sites")
    if not config.federated:
        raise UsageError(f"real sites are federated: --algorithm {config.algorithm.name} needs all images in one place")
    if config.privacy.secure_sums:
        roster_to_send(settings, settings.sites)
    if config.privacy.on and not (held_out or settings.held_out):
        raise UsageError(NO_HELD_OUT)
    path = out or settings.runs_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-sites"
    runs.refuse_taken(path)
    images = held_out or (settings.folder / settings.held_out if settings.held_out else None)
    size = config.data.image_size
    data = DataConfig(image_size=size)
    if images is not None:
        data = DataConfig(
            image_size=size,
            source=str(images.resolve()),
            masks=config.data.masks,
            lesion_values=config.data.lesion_values,
        )
    hospitals = config.hospitals.model_copy(update={"count": len(settings.sites)})
    config = config.model_copy(update={"data": data, "hospitals": hospitals})
    ids: tuple[str, ...] = ()
    store = None
    if images is not None:
        from fedpolyp.data.source import open_source

        store = open_source(data, 0)
        ids = tuple(sorted(record.id for record in store.records))
    if dry:
        return runs.RunFolder(path)
    # Only the sites know their images.
    partition = Partition(ids, {site: HospitalImages((), (), ()) for site in settings.sites})
    return runs.create(path.resolve(), config, partition, None if store is None else store.path)


def _refuse_simulated(run: "RunFolder") -> None:
    hospitals = run.partition().hospitals.values()
    if any(own.train or own.val or own.test for own in hospitals):  # those of real sites are unknown
        raise UsageError(f"{run.path} was not run at sites; go on with fedpolyp simulate --resume {run.path}")


def _take_out(settings: CoordinatorSettings, nodes: list[flower.Node]) -> None:
    for node in nodes:
        flower.unregister(settings, node).answer()


def _finish(run: "RunFolder", quiet: bool) -> None:
    from fedpolyp.data.source import open_source
    from fedpolyp.report.curves import draw_curves
    from fedpolyp.report.finish import finish, save_models

    config, rounds, console = run.config(), run.rounds(), _console()
    heldout = bool(run.partition().heldout)
    scored_on = "held-out" if heldout else "the sites' test"
    store = open_source(config.data, config.data_seed) if heldout else None
    run.refuse_changed(store)
    if store is not None:
        finish(run, store)
    else:
        save_models(run)
        draw_curves(run.curves, rounds)
    if not quiet:
        console.print(round_table(rounds, heldout))
        if words := paragraph(config, rounds, simulated=False):
            console.print(words, soft_wrap=True)
    console.print(ending(rounds, scored_on))
    console.print(f"run folder: {run.path}", soft_wrap=True)


def _folders(out: Path | None, authority: Path | None, coordinator: Path | None) -> tuple[Path, Path]:
    if out is not None:
        authority, coordinator = authority or out / "authority", coordinator or out / "coordinator"
    if authority is None or coordinator is None:
        raise UsageError("name the folder that 'site init' made with --out, or --authority and --coordinator")
    return authority, coordinator


def _site(folder: Path, data: Path | None) -> SiteSettings:
    from fedpolyp.sites.connection import ASK_FOR_ONE

    file = folder / "site.toml"
    settings = SiteSettings.load(file, "" if data is None else str(data.expanduser().resolve()))
    if not settings.data:
        raise UsageError(f"{file} names no folder of images: write it there as 'data', or give --data")
    if not settings.key.exists():
        raise UsageError(f"{settings.key} is missing: 'fedpolyp site keygen --folder {folder}' makes it")
    if not settings.certificate.exists():
        raise UsageError(f"{settings.certificate} is missing; {ASK_FOR_ONE}")
    if not flower.quoted_safely([file.resolve(), settings.images]):
        raise UsageError(f"Flower cannot be told a path with quotation marks or backslashes: {settings.images}")
    return settings


def _checkout(chosen: Path | None) -> Path:
    import fedpolyp

    folder = (chosen or Path(fedpolyp.__file__).parents[1]).resolve()
    if not (folder / "pyproject.toml").is_file() or not (folder / "clients").is_dir():
        raise UsageError(f"{folder} is not a checkout of fedpolyp, whose code the sites would run; name one with --app")
    return folder


def _print(*commands: flower.Command) -> None:
    for command in commands:
        typer.echo(command.shown())


def _console() -> PlainConsole:
    return PlainConsole(soft_wrap=True)
