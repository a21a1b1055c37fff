"""`fedpolyp site run`: a training at the sites, from its submission to its finished folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.cli import flower
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.cli.site.options import CoordinatorFolder, PrintCommand, screen, show
from fedpolyp.cli.tables import ending, round_table
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.privacy.words import NO_HELD_OUT, beginning, paragraph, scores
from fedpolyp.sites.settings import CoordinatorSettings

if TYPE_CHECKING:
    from fedpolyp.runs import RunFolder

_OF_TRAINING = ("model", "training", "algorithm")  # sections that are not used if nothing is trained


@with_settings(("", "model", "training", "algorithm", "privacy", "federation", "runtime"))
def run(
    given: Given,
    folder: CoordinatorFolder = Path("."),
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out-data", metavar="FOLDER", help="folder of images that no site has, to score on"),
    ] = None,
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
            screen().print(said, soft_wrap=True)
    elif out or held_out or evaluate or given.overrides or given.file or given.preset:
        raise UsageError("--resume uses the run as it is, so neither settings nor folders can be given with it")
    else:
        run = runs.find(resume, settings.runs_folder)
        _refuse_simulated(run)
    if print_command:
        show(flower.submit(settings, app_folder, "NAME-OF-THE-RUN"))
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
            error.add_note(f"rounds are complete up to {done}; resume with: {again}")
        raise
    _finish(run, quiet)


def _to_evaluate(given: Given, model: Path) -> Given:
    """The settings with which `model` is scored at the sites, besides those `given`.

    Raises:
        UsageError: a given setting would make it another model, or train it.
    """
    from fedpolyp.inference.about import as_settings
    from fedpolyp.runs import model_given

    own = as_settings(model_given(model).resolve())
    if given.file or given.preset:
        raise UsageError("--evaluate takes its settings from the model, so --config and --preset cannot be given")
    if other := sorted(name for name in given.overrides if name in own or name.split(".")[0] in _OF_TRAINING):
        raise UsageError(
            f"--evaluate trains nothing and takes its model from {model}, so {', '.join(other)} cannot be given"
        )
    return Given(None, None, {**given.overrides, **own})


def _new_run(
    given: Given, settings: CoordinatorSettings, held_out: Path | None, out: Path | None, dry: bool
) -> "RunFolder":
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
        raise UsageError(f"{run.path} was not run at sites; resume it with fedpolyp simulate --resume {run.path}")


def _finish(run: "RunFolder", quiet: bool) -> None:
    from fedpolyp.data.source import open_source
    from fedpolyp.report.curves import draw_curves
    from fedpolyp.report.finish import finish, save_models

    config, rounds, console = run.config(), run.rounds(), screen()
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
        if words := scores({"": rounds[-1]}, simulated=False):
            console.print(words, soft_wrap=True)
    console.print(ending(rounds, scored_on))
    console.print(f"run folder: {run.path}", soft_wrap=True)


def _checkout(chosen: Path | None) -> Path:
    import fedpolyp

    folder = (chosen or Path(fedpolyp.__file__).parents[1]).resolve()
    if not (folder / "pyproject.toml").is_file() or not (folder / "clients").is_dir():
        raise UsageError(f"{folder} is not a checkout of fedpolyp, whose code the sites would run; name one with --app")
    return folder
