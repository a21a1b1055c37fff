"""The ServerApp that `flwr run` starts: the same federation, with settings from Flower's run config."""

import contextlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedpolyp import runs
from fedpolyp.config import Config, load, rated, value_of
from fedpolyp.data.partition.assign import counted, partition_images, partition_notes
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError, FinalError, UsageError
from fedpolyp.model.weights import noted
from fedpolyp.report.tensorboard import EventWriter
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.runs import RunFolder
from fedpolyp.sites.handover import handed_over, name_at_sites, registered_images, roster_for
from fedpolyp.sites.progress import FileWatcher, progress_file
from fedpolyp.text import printable
from fedpolyp.watcher import Watcher, Watchers
from server.federation import run_on

_log = logging.getLogger("flwr")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment of the run config: `config` (a TOML file), `out` (a folder), `overrides`; '' for the defaults.

    `overrides` are single settings that override the file: 'federation.rounds=3 training.loss="bce"'. With `sites`, the
    nodes are real hospitals, and the run is the one that was handed over with that name.
    """
    if real := str(context.run_config.get("sites", "")):
        at_sites(grid, handed_over(real), str(context.run_id))
        return
    config, out = noted_partition(rated(noted(experiment(context.run_config)))), str(context.run_config.get("out", ""))
    store = open_source(config.data, config.data_seed)
    partition = partition_images(store.records, config, store)
    for sentence in partition_notes(store.records, config, partition):
        _log.warning("%s", sentence)
    config = counted(config, partition)
    folder = Path(out) if out else runs.DEFAULT_ROOT / runs.new_name(config)
    run = runs.create(folder.resolve(), config, partition, store.path)
    _log.info("the run folder is %s", run.path)
    with run.locked():
        run_on(Experiment(config, run, store, partition, LogWatcher(), threading.Event()), grid)


def experiment(run_config: Mapping[str, Any]) -> Config:
    """The config from the run config's `config` and `overrides`.

    Raises:
        UsageError: it cannot be read, or its algorithm is not federated.
    """
    file, overrides = (str(run_config.get(name, "")) for name in ("config", "overrides"))
    config = load(
        Path(file) if file else None,
        overrides={name: value_of(text) for name, _, text in (o.partition("=") for o in overrides.split())},
    )
    if not config.federated:
        raise UsageError(f"Flower runs only federations; '{config.algorithm.name}' is for 'fedpolyp simulate'")
    return config


def at_sites(grid: Grid, run: RunFolder, flower_run: str) -> None:
    """Carry out the run of a folder that 'fedpolyp site run' made, to its last round, at real hospitals.

    Every event, from the very first failure on, is written to a file of the folder, which that command follows.

    Raises:
        FedpolypError: the run cannot continue; its folder has every complete round.
    """
    told = FileWatcher(progress_file(run), flower_run)
    # The lock is held until the end is recorded: a free lock without a recorded end means that the run was killed.
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(run.locked())
            config, partition = run.config().ready(), run.partition()
            store = open_source(config.data, config.data_seed) if partition.heldout else None
            run.refuse_changed(store)
            watcher, name = Watchers(told, EventWriter(run)), name_at_sites(run)
            stop, registered = threading.Event(), registered_images()
            roster = roster_for(config, partition.hospitals)
            run_on(Experiment(config, run, store, partition, watcher, stop, name, registered, roster), grid)
            told.tell("finished")
        except FedpolypError as error:
            told.tell(
                "failed", reason=str(error), **({"again": False} if isinstance(error, (FinalError, UsageError)) else {})
            )
            raise
        except Exception as error:
            told.tell("failed", reason=f"{type(error).__name__}: {error}")
            raise


class LogWatcher(Watcher):
    """Writes events to Flower's log, which `flwr run --stream` shows."""

    def started(self, config: Config, partition: Partition, round: int) -> None:
        """See `Watcher`."""
        _log.info("%d hospitals, %d rounds", len(partition.hospitals), config.federation.rounds)

    def finished_round(self, record: dict[str, Any]) -> None:
        """See `Watcher`."""
        _log.info("round %d: held-out Dice %.3f, loss %.3f", record["round"], record["dice"], record["loss"])

    def note(self, text: str) -> None:
        """See `Watcher`."""
        _log.warning("%s", printable(text))
