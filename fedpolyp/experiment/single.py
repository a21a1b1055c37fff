"""One run, from its settings to its end: `fedpolyp simulate`, and `fedpolyp.simulate` in Python."""

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedpolyp import checkpoints, interrupts, runs
from fedpolyp.config import Config, rated
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.model.weights import noted
from fedpolyp.planning import planned, this_machine
from fedpolyp.runs import RunFolder
from fedpolyp.runs.going_back import go_back, refuse_unusable
from fedpolyp.watcher import Watcher

if TYPE_CHECKING:
    from fedpolyp.data.partition.partition import Partition
    from fedpolyp.data.store import Store
    from fedpolyp.simulation.cluster import Started


def _silent(_: str) -> None:
    """Nobody hears it."""


@dataclass(frozen=True)
class Audience:
    """Receives the notes before a run's rounds, one sentence at a time, and provides a watcher of the rounds."""

    say: Callable[[str], None] = _silent
    watching: Callable[[], AbstractContextManager[Watcher]] = lambda: nullcontext(Watcher())


@dataclass(frozen=True)
class _Prepared:
    """What a run begins with."""

    config: Config
    store: "Store"
    partition: "Partition"


def begin(config: Config, out: Path | None, audience: Audience, verbose: bool = False) -> RunFolder:
    """Make a run from `config` in the new folder `out`, or in one named by the time, and carry it out.

    Raises:
        UsageError: the settings, the images or the folder cannot be used.
        FedpolypError: the run could not be finished; a note says how to resume it.
    """
    path = _place(config, out)
    ready = _prepared(config, audience)
    with _started(ready.config, verbose) as starting:
        run = runs.create(path, ready.config, ready.partition, ready.store.path)
        _carry(ready.config, run, ready.store, ready.partition, starting, audience, verbose)
    return run


def create(config: Config, out: Path | None, audience: Audience) -> RunFolder:
    """Make a run as `begin` does, but do not carry it out.

    Raises:
        UsageError: the settings, the images or the folder cannot be used.
    """
    path = _place(config, out)
    ready = _prepared(config, audience)
    return runs.create(path, ready.config, ready.partition, ready.store.path)


def go_on(
    run: RunFolder,
    change: Callable[[Config], Config],
    audience: Audience,
    from_round: int | None = None,
    verbose: bool = False,
) -> RunFolder:
    """Resume a run that was interrupted or gets more rounds.

    Args:
        run: its folder.
        change: returns the new settings from the old ones: more rounds, another place of its images, the runtime.
        audience: receives the notes and the progress.
        from_round: the checkpoint to go back to first; None for the newest.
        verbose: whether the output of Flower and Ray is shown.

    Raises:
        UsageError: the run cannot be resumed like this.
        FedpolypError: it could not be finished; a note says how to resume it.
    """
    begun = run.config().ready()
    wanted = change(begun)
    config, plan = planned(wanted, this_machine(), begun)
    if config.federation.rounds > begun.federation.rounds and (why := run.stopped):
        raise UsageError(f"{run.path} has stopped for good, so --rounds cannot extend it: {why}")
    if wanted.runtime.ray_address != begun.runtime.ray_address:
        _refuse_ray(config)
    try:
        store = _opened(config, "\n".join(filter(None, (plan, run.other_kernels()))), audience)
    except UsageError as error:
        if config.data.source == begun.data.source:
            error.add_note("if the images have moved, give --data FOLDER together with --resume")
        raise
    partition = run.partition()
    run.refuse_changed(store)
    from fedpolyp.rounds.refusing import refuse_impossible

    # Before anything is changed: with rounds that stop it, a finished run would be unfinished for good.
    refuse_impossible(config, partition, checkpoints.newest(run.checkpoints) if from_round is None else from_round)
    with run.locked():
        if from_round is not None or run.changes(config):
            refuse_unusable(run, config, from_round)
    with _started(config, verbose) as starting:
        if from_round is not None or run.changes(config):
            if starting is not None:
                starting.wait()  # nothing is changed until everything that the run needs is there
            with run.locked():
                if from_round is not None:
                    go_back(run, from_round)
                run.change(config, store.path)
        _carry(config, run, store, partition, starting, audience, verbose)
    return run


def refuse_fewer_rounds(config: Config, rounds: int) -> None:
    """Refuse another number of `rounds` for the run of `config`, unless it adds rounds and changes no earlier one.

    Raises:
        UsageError: they are fewer, or the learning rate depends on the number of rounds.
    """
    before = config.federation.rounds
    if rounds < before:
        raise UsageError(f"--resume can add rounds, not remove them: the run has {before}; got --rounds {rounds}")
    if rounds > before and config.privacy.on:
        raise UsageError(
            f"the privacy guarantee of this run is for {before} rounds, so none can be added: start a new run with "
            f"--rounds {rounds}"
        )
    if rounds > before and config.training.schedule != "constant":
        raise UsageError(
            f"the learning rate of this run falls over its {before} rounds ({config.training.schedule}), so more "
            f"rounds would change the whole experiment: start a new run with --rounds {rounds}, or with --schedule "
            "constant, to which rounds can be added later"
        )


def _place(config: Config, out: Path | None) -> Path:
    """The folder of a new run."""
    path = out or runs.DEFAULT_ROOT / runs.new_name(config)
    runs.refuse_taken(path)
    return path


def _prepared(config: Config, audience: Audience) -> _Prepared:
    """The images, partitioned as `config` says; the audience is told what it should know about them."""
    config, plan = planned(noted_partition(noted(config)), this_machine())
    if config.training.learning_rate is None:
        config = rated(config)
        rate = f"learning rate {config.training.learning_rate:g} for {config.training.optimizer}"
        plan = ", ".join(filter(None, (plan, rate)))
    _refuse_ray(config)

    # Imported only now: an error in the settings is reported before TensorFlow and Ray are loaded.
    from fedpolyp.config.unused import unused
    from fedpolyp.data.partition.assign import counted, partition_images, partition_notes
    from fedpolyp.experiment.warm_start import seen_before
    from fedpolyp.privacy.words import beginning
    from fedpolyp.rounds.refusing import refuse_impossible

    store = _opened(config, plan, audience)
    partition = partition_images(store.records, config, store)
    for sentence in (*partition_notes(store.records, config, partition), *seen_before(config, store, partition)):
        audience.say(sentence)
    said, config = unused(config, partition), counted(config, partition)
    refuse_impossible(config, partition, records={record.id: record for record in store.records})
    for sentence in filter(None, (said, beginning(config, simulated=True))):
        audience.say(sentence)
    return _Prepared(config, store, partition)


def _refuse_ray(config: Config) -> None:
    if not config.federated and config.runtime.ray_address is not None:
        raise UsageError(f"--ray-address is for a federation; {config.algorithm.name} trains in this process")


def _opened(config: Config, plan: str, audience: Audience) -> "Store":
    """The images of a run; the audience is told the notes about them, and `plan`."""
    from fedpolyp.data.source import open_source

    store = open_source(config.data, config.data_seed)
    if store.report.rejected:
        audience.say(f"{store.report.used} pairs, {len(store.report.rejected)} left out (see fedpolyp data ingest)")
    for note in filter(None, (*store.report.notes, plan)):
        audience.say(note)
    return store


def _started(config: Config, verbose: bool) -> "AbstractContextManager[Started | None]":
    """The Ray instance that a federation needs; an unusable cluster is refused before there is a run folder."""
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
    audience: Audience,
    verbose: bool,
) -> None:
    """Carry out the run in `run`."""
    from fedpolyp.report.tensorboard import EventWriter
    from fedpolyp.sites.progress import FileWatcher, progress_file
    from fedpolyp.watcher import Watchers

    with run.locked():
        told = FileWatcher(progress_file(run), flower_run="")  # for programs that watch the run
        try:
            with audience.watching() as shown:
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
            with suppress(OSError):
                told.tell("failed", reason=str(error))
            # A round's record comes before the checkpoint that makes it complete.
            done = min(len(run.rounds()) - 1, checkpoints.newest(run.checkpoints))
            if not isinstance(error, (FinalError, UsageError)):
                again = shlex.join(["fedpolyp", "simulate", "--resume", str(run.path)])
                complete = "no round is" if done < 1 else "1 round is" if done == 1 else f"{done} rounds are"
                error.add_note(f"{complete} complete{' yet' * (done < 1)}; resume with: {again}")
            raise error from None
