"""`fedpolyp simulate`: a federation of hospitals on this machine."""

import contextlib
import shlex
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp import checkpoints, interrupts, runs
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.config import Config
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.going_back import go_back, refuse_unusable
from fedpolyp.model.weights import noted
from fedpolyp.planning import planned, this_machine
from fedpolyp.runs import RunFolder

if TYPE_CHECKING:
    from fedpolyp.cli.console import PlainConsole
    from fedpolyp.data.partition.partition import Partition
    from fedpolyp.data.store import Store
    from fedpolyp.simulation.cluster import Started


@with_settings()
def simulate(
    given: Given,
    out: Annotated[Path | None, typer.Option(help="run folder to make  [dim]\\[runs/<time>-<images>][/dim]")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="go on with a run that was interrupted")] = None,
    from_round: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="with --resume: go back to the checkpoint of round N")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the last line")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show what Flower and Ray say, too")] = False,
) -> None:
    """Train a federation of hospitals on this machine and score its model on a held-out set."""
    if resume is not None and out is not None:
        raise UsageError("--resume goes on in the run's own folder, so --out cannot be given with it")
    if from_round is not None and resume is None:
        raise UsageError("--from-round goes back in a run, which --resume names")
    if resume is None:
        config, plan = planned(noted_partition(noted(given.config())), this_machine())
        path = out or runs.DEFAULT_ROOT / runs.new_name(config)
        runs.refuse_taken(path)
    else:
        run = runs.find(resume)
        begun = run.config().ready()
        config, plan = planned(given.resumed(begun), this_machine(), begun)
        if config.federation.rounds > begun.federation.rounds and (why := run.stopped):
            raise UsageError(f"{run.path} has stopped for good, so --rounds cannot take it further: {why}")
        plan = "\n".join(filter(None, (plan, run.other_kernels())))

    given_address = resume is None or "runtime.ray_address" in given.overrides
    if not config.federated and config.runtime.ray_address is not None and given_address:
        raise UsageError(f"--ray-address is for a federation; {config.algorithm.name} trains in this process")

    # Imported only now: a mistake in the command is answered before TensorFlow and Ray have been loaded.
    from fedpolyp.cli.console import console_of_its_own
    from fedpolyp.config.unused import unused
    from fedpolyp.data.partition.deal import counted, deal, said_of_deal
    from fedpolyp.data.source import open_source
    from fedpolyp.rounds.absence import refuse_impossible

    console = console_of_its_own()
    try:
        store = open_source(config.data, config.data_seed)
    except UsageError as error:
        if resume is not None and "data.source" not in given.overrides:
            error.add_note("images that lie elsewhere now are given with --data FOLDER beside --resume")
        raise
    if store.report.rejected and not quiet:
        console.print(f"{store.report.used} pairs, {len(store.report.rejected)} left out (see fedpolyp data ingest)")
    for note in () if quiet else store.report.notes:
        console.print(note, soft_wrap=True)
    if plan and not quiet:
        console.print(plan)
    if resume is None:
        partition = deal(store.records, config, store)
        for sentence in [] if quiet else said_of_deal(store.records, config, partition):
            console.print(sentence, soft_wrap=True)
        said, config = unused(config, partition), counted(config, partition)
        refuse_impossible(config, partition)
        if said and not quiet:
            console.print(said, soft_wrap=True)
    else:
        partition = run.partition()
        run.refuse_changed(store)
        with run.locked():
            if from_round is not None or run.changes(config):
                refuse_unusable(run, config, from_round)
    with _started(config, verbose) as starting:
        if resume is None:
            run = runs.create(path, config, partition, store.path)
        elif from_round is not None or run.changes(config):
            if starting is not None:
                starting.wait()  # nothing is changed before all is there that the run goes on with
            with run.locked():
                if from_round is not None:
                    go_back(run, from_round)
                run.change(config, store.path)
        _carry(config, run, store, partition, starting, console, quiet, verbose)
    from fedpolyp.cli.tables import ending, round_table

    if not quiet:
        console.print(round_table(run.rounds()))
    console.print(ending(run.rounds(), own_models=config.algorithm.name == "local"), soft_wrap=True)
    console.print(f"run folder: {run.path}", soft_wrap=True)


def _started(config: Config, verbose: bool) -> "AbstractContextManager[Started | None]":
    """The Ray that a federation needs; a cluster that cannot be used is refused before there is a run folder."""
    if not config.federated:
        return nullcontext()
    from fedpolyp.simulation import cluster

    started = cluster.begin(config, verbose)
    if config.runtime.ray_address is not None:
        with ExitStack() as undone:
            undone.enter_context(started)
            started.wait()
            cluster.places(cluster.resources(config, cluster.actors(config)))
            undone.pop_all()
    return started


def _carry(
    config: Config,
    run: RunFolder,
    store: "Store",
    partition: "Partition",
    starting: "Started | None",
    console: "PlainConsole",
    quiet: bool,
    verbose: bool,
) -> None:
    """Carry the run in `run` to its end."""
    from fedpolyp.cli.screen import screen
    from fedpolyp.report.tensorboard import EventWriter
    from fedpolyp.sites.progress import FileWatcher, progress_file
    from fedpolyp.watcher import Watchers

    with run.locked():
        told = FileWatcher(progress_file(run), flower_run="")  # for who looks at the run meanwhile
        try:
            with screen(console, quiet) as shown:
                watcher = Watchers(shown, EventWriter(run), told)
                if config.federated:
                    from fedpolyp.simulation import engine

                    engine.run(config, run, store, partition, watcher, verbose, starting)
                else:
                    from fedpolyp.rounds import here

                    here.run(config, run, store, partition, watcher)
            from fedpolyp.report.finish import finish

            finish(run, store)
        except (FedpolypError, OSError, KeyboardInterrupt) as failure:
            if isinstance(failure, KeyboardInterrupt):
                interrupts.ending()
            error = FedpolypError("interrupted") if isinstance(failure, KeyboardInterrupt) else failure
            with contextlib.suppress(OSError):
                told.tell("failed", reason=str(error))
            # A round's record comes before the checkpoint that makes it complete.
            done = min(len(run.rounds()) - 1, max(checkpoints.rounds_in(run.checkpoints), default=0))
            if not isinstance(error, (FinalError, UsageError)):
                again = shlex.join(["fedpolyp", "simulate", "--resume", str(run.path)])
                complete = "no round is" if done < 1 else "1 round is" if done == 1 else f"{done} rounds are"
                error.add_note(f"{complete} complete{' yet' * (done < 1)}; go on with: {again}")
            raise error from None
