"""Carries out a run in this process, without Flower and Ray: pooled and local training."""

import threading

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of, parts_of
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.loop import carry
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher


def run(
    config: Config,
    run: RunFolder,
    store: Store,
    partition: Partition,
    watcher: Watcher,
    stop: threading.Event | None = None,
) -> None:
    """Carry out the run in `run` to its last round, with any algorithm, one hospital after the other.

    Raises:
        FedpolypError: the run folder cannot be resumed from, or a training diverged.
    """

    def hospital(name: str) -> Hospital:
        return Hospital(name, config, store, images_of(partition, name), run.state / name, parts_of(partition, name))

    experiment = Experiment(config, run, store, partition, watcher, stop or threading.Event())
    carry(experiment, InProcess(hospital, experiment.rounds_values))
