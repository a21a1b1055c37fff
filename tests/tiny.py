"""A federation small enough for tests: three hospitals, phantom frames of 32 pixels, a U-Net of four filters."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from clients.app import app as client_app
from fedpolyp import checkpoints, network, runs
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config, load
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.source import open_source
from fedpolyp.errors import Interrupted
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.exchange.replies import Reply, Sent
from fedpolyp.exchange.requests import KINDS, Evaluate, Request, Train, Unmask
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds import here
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.loop import carry
from fedpolyp.runs import RunFolder
from fedpolyp.simulation.records import plain_request
from fedpolyp.watcher import Watcher
from server.federation import run_on
from tests.same_bits import equal
from tests.serial_grid import SerialGrid

# A process of ours computes one experiment; that of the tests many in turn, and building a network takes seconds.
network._network = functools.lru_cache(maxsize=8)(network._network.__wrapped__)

# Half of a test's time are training steps, so there are only three in a training, the last of them on a smaller batch.
# Hospitals train on 10 or 11 images; Dice is above 0, differs from round to round, and is not best in the last.
SETTINGS: dict[str, Any] = {
    "data.image_size": 32,
    "data.phantom_images": 45,
    "hospitals.count": 3,
    "model.base_filters": 4,
    "training.batch_size": 4,
    "training.optimizer": "adam",
    "training.learning_rate": 0.005,
    "training.local_epochs": 1,
    "federation.rounds": 3,
}


Whole = Callable[[Config], RunFolder]  # the fixture


def tiny_config(**overrides: Any) -> Config:
    """The config of a tiny experiment; `section__name=value` overrides."""
    return load(overrides=SETTINGS | {name.replace("__", "."): value for name, value in overrides.items()})


def tiny_run(folder: Path, config: Config) -> RunFolder:
    """A new run folder for `config`."""
    store = open_source(config.data, config.seed)
    return runs.create(folder, config, partition_images(store.records, config, store), store.path)


def federate(
    run: RunFolder,
    config: Config,
    grid: SerialGrid | None = None,
    watcher: Watcher | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Carry `run` to its last round on a serial grid."""
    store = open_source(config.data, config.seed)
    experiment = Experiment(config, run, store, run.partition(), watcher or Watcher(), stop or threading.Event())
    run_on(experiment, grid or serial_grid())


def carry_here(
    run: RunFolder, config: Config, watcher: Watcher | None = None, stop: threading.Event | None = None
) -> None:
    """Carry `run` to its last round in this process, without Flower; any algorithm."""
    here.run(config, run, open_source(config.data, config.seed), run.partition(), watcher or Watcher(), stop)


@dataclass(frozen=True)
class Listening(InProcess):
    """An exchange in this process that keeps what it was asked, and changes replies."""

    spoil: Callable[[Request, Reply], Reply] = lambda request, reply: reply
    asked: list[Request] = field(default_factory=list)

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        """Answer one request after the other."""
        for one in requests:
            self.asked.append(one[0])
            for reply in super().send([one], lambda reply: None):
                spoiled = self.spoil(one[0], reply)
                arrived(spoiled)
                yield spoiled


def carry_listening(
    run: RunFolder,
    config: Config,
    spoil: Callable[[Request, Reply], Reply] = lambda request, reply: reply,
    watcher: Watcher | None = None,
    heldout: bool = True,
) -> list[Request]:
    """Carry `run` to its last round in this process; what was asked, in order. The coordinator may have no images."""
    store, partition = open_source(config.data, config.seed), run.partition()

    def hospital(name: str) -> Hospital:
        return Hospital(name, config, store, images_of(partition, name), run.state / name)

    seen = store if heldout else None
    experiment = Experiment(config, run, seen, partition, watcher or Watcher(), threading.Event())
    exchange = Listening(hospital, experiment.rounds_values, spoil)
    carry(experiment, exchange)
    return exchange.asked


def the_whole_run(config: Config, folder: Path) -> RunFolder:
    """The finished run of `config` somewhere in `folder`, which the fixture `whole` gives tests that only read it."""
    key = config.model_dump_json()
    if key not in _whole:
        _whole[key] = tiny_run(folder / f"whole-{len(_whole)}", config)
        carry_here(_whole[key], config)
    return _whole[key]


_whole: dict[str, RunFolder] = {}


def serial_grid(
    spoil: Callable[[Message, Message], Message] = lambda asked, reply: reply, nodes: int = 3
) -> SerialGrid:
    """A grid of three seats."""
    return SerialGrid(client_app, nodes, spoil)


def final(run: RunFolder, config: Config) -> Checkpoint:
    """The last checkpoint of a finished run."""
    return checkpoints.load(run.checkpoints, config.federation.rounds, run.fingerprint())


def weights(run: RunFolder, config: Config) -> Arrays:
    """The weights of the one model of a finished run."""
    return final(run, config).models[""]


def request_of(message: Message) -> Train | Evaluate | Unmask:
    """What a message to a hospital asks."""
    return KINDS[message.metadata.message_type].from_plain(plain_request(message.content))


def same_state(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same state, to the bit."""
    return one.state.keys() == other.state.keys() and all(
        equal(arrays, other.state[group]) for group, arrays in one.state.items()
    )


class StopAfter(Watcher):
    """Interrupts a run when a round is complete; keeps what it heard."""

    def __init__(self, round: int, stop: threading.Event) -> None:
        self.round = round
        self.stop = stop

    def finished_round(self, record: dict[str, Any]) -> None:
        """Set the stop event after the round."""
        if record["round"] == self.round:
            self.stop.set()


class Notes(Watcher):
    """Keeps the notes it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def whole_and_interrupted(folder: Path, config: Config) -> tuple[RunFolder, RunFolder]:
    """A run that was never interrupted, and one that does round 1 twice and ends in the same bits."""
    whole, broken = tiny_run(folder / "whole", config), tiny_run(folder / "broken", config)
    carry_here(whole, config)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        carry_here(broken, config, StopAfter(1, stop), stop)
    for file in broken.checkpoints.glob("round-000001*"):  # so that round 1 is done again
        file.unlink()
    carry_here(broken, config)
    assert same_state(final(whole, config), final(broken, config))
    return whole, broken
