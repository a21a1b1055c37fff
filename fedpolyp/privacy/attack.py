"""Attacks a finished run as its server could: who was among its training images, and what do they show?"""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import MODEL
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.exchange.packing import carried
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.inversion import STEPS, Inversion, Inverted
from fedpolyp.privacy.membership import Success, success
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.counted import Counted, trained
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.replies import read_update
from fedpolyp.runs import RunFolder
from fedpolyp.training import Images, shared_trainer
from fedpolyp.watcher import Watcher

MOST_HOSPITALS = 8  # whose updates are attacked
LOSS, CALIBRATED, WHOSE = "loss", "calibrated", "loss, whose image"

_Set = tuple[Images, Images]


@dataclass(frozen=True)
class Row:
    """One attack: on what, by which signal, and how well it went."""

    target: str
    signal: str
    success: Success


@dataclass(frozen=True)
class Attacked:
    """All attacks on a run, and what could not be attacked."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]  # a sentence each
    inverted: tuple[Inverted, ...] = ()


def attack(run: RunFolder, store: Store, pictures: int = 0, steps: int = STEPS) -> Attacked:
    """Distinguish a run's training images from others, by its model, each hospital's last update, and their sum.

    Others are the held-out images and the hospitals' test images: no model was trained or selected on them. The
    calibrated signal is the loss of an earlier model minus that of the attacked one. The earlier model is the run's
    first one for its last, and the one that was sent for an update or the sum. A further attack asks whose an image is:
    it distinguishes the training images of an update's hospital from those of the other hospitals.

    The last updates are computed again, from the checkpoint before: a run keeps none.

    Args:
        run: a finished run.
        store: its images.
        pictures: how many training images to recover from their gradients at the run's first model, of as many
            hospitals as possible; none where the server sees no single update.
        steps: of each recovery.

    Raises:
        FedpolypError: the run's checkpoints cannot be used.
    """
    of = _Run(run, store)
    rows = list(of.global_model())
    left_out = []
    if why := of.why_no_updates():
        left_out.append(why)
    elif run.config().privacy.secure_sums:
        rows += of.sum()
        left_out.append("With secure sums the server has no single update to attack.")
    else:
        rows += [*of.updates(), *of.sum()]
        if (more := len(of.last_hospitals) - MOST_HOSPITALS) > 0:
            left_out.append(f"The updates of {more} more hospitals were not attacked.")
    sent = of.config.federated and not of.config.privacy.secure_sums
    return Attacked(tuple(rows), tuple(left_out), tuple(of.inverted(pictures, steps)) if pictures and sent else ())


@dataclass(frozen=True)
class _Run:
    run: RunFolder
    store: Store

    @cached_property
    def config(self) -> Config:
        return self.run.config()

    @cached_property
    def last(self) -> Checkpoint:
        done = self.run.rounds()[-1]["round"]
        return checkpoints.load(self.run.checkpoints, done, self.run.fingerprint())

    @cached_property
    def hospitals(self) -> Mapping[str, HospitalImages]:
        return dict(sorted(self.run.partition().hospitals.items()))

    @cached_property
    def last_hospitals(self) -> Sequence[str]:
        """Those whose update of the last round counted."""
        return [name for name, own in self.run.rounds()[-1]["hospitals"].items() if trained(own)]

    @cached_property
    def others(self) -> _Set:
        """Images that no hospital has trained on, or chosen by."""
        sets = [self.run.partition().heldout_of(self.store)]
        sets += [self._set(name, "test") for name, own in self.hospitals.items() if own.test]
        return np.concatenate([images for images, _ in sets]), np.concatenate([masks for _, masks in sets])

    def trained_on(self, names: Sequence[str]) -> _Set:
        """The training images of these hospitals."""
        sets = [self._set(name, "train") for name in names]
        return np.concatenate([images for images, _ in sets]), np.concatenate([masks for _, masks in sets])

    def global_model(self) -> Iterator[Row]:
        """The model of all, or in the local arm each hospital's own."""
        start = shared_trainer(self.config).initial
        for mark, model in self.last.models.items():
            names = [mark] if mark else list(self.hospitals)
            yield from self._rows(f"model of {mark}" if mark else "model", model, start, self.trained_on(names))

    def why_no_updates(self) -> str:
        """Why no update can be attacked; '' where they can."""
        if not self.config.federated:
            return f"Nothing travels with {self.config.algorithm.name}, so there is no update to attack."
        if not self.last.round:
            return "The run has no round, so there is no update to attack."
        if self.last.round - 1 not in checkpoints.rounds_in(self.run.checkpoints):
            return "The checkpoint before the last is gone, so the last updates cannot be computed again."
        names = self.last_hospitals
        if not names:
            return "The last round was lost, so there is no update to attack."
        if len(self._experiment().algorithm.stages(names, np.random.default_rng(0))) > 1:
            return f"With {self.config.algorithm.name} hospitals train one after the other: there is no sum of updates."
        return ""

    def updates(self) -> Iterator[Row]:
        """Each hospital's update of the last round."""
        before = checkpoints.load(self.run.checkpoints, self.last.round - 1, self.run.fingerprint())
        sent = before.models[""]
        for name, model in self._updated(before):
            own = self.trained_on([name])
            yield from self._rows(f"update of {name}", model, sent, own)
            if rest := [one for one in self.hospitals if one != name]:
                signals = [self._losses(model, *images) for images in (own, self.trained_on(rest))]
                found = success(-signals[0], -signals[1])
                yield Row(f"update of {name}", WHOSE, found)

    def sum(self) -> Iterator[Row]:
        """The model that the sum of the last round's updates has led to."""
        sent = checkpoints.load(self.run.checkpoints, self.last.round - 1, self.run.fingerprint()).models[""]
        yield from self._rows("sum of updates", self.last.models[""], sent, self.trained_on(self.last_hospitals))

    def inverted(self, count: int, steps: int) -> Iterator[Inverted]:
        """Training images, and what can be recovered of each from its gradient alone, in the first round.

        No server sees the gradient of a single image: it sees a sum over a hospital's images, which tells less.
        """
        inversion = Inversion(self.config, shared_trainer(self.config).initial, steps)
        mean = np.asarray(self.run.partition().heldout_of(self.store)[0]).mean(axis=0, dtype=np.float32)
        firsts = sorted((row, name) for name, own in self.hospitals.items() for row in range(len(own.train)))
        for row, name in firsts[:count]:
            images, masks = self._set(name, "train")
            units = len(self._hospital(name).units(self.config.privacy.unit)) if self.config.privacy.on else 0
            yield inversion.invert(self.hospitals[name].train[row], images[row], masks[row], mean, units)

    def _updated(self, before: Checkpoint) -> Iterator[tuple[str, Arrays]]:
        """Each hospital's model after its training of the last round, as the server can tell it from the update."""
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "state"
            if self.run.state.exists():
                shutil.copytree(self.run.state, state)  # a hospital writes there, and the run is to stay as it is
            experiment = self._experiment()

            def hospital(name: str) -> Hospital:
                return Hospital(name, self.config, self.store, self.hospitals[name], state / name)

            halves, number = experiment.rounds_values, before.round + 1
            counted = Counted.of(one for one in self.run.rounds() if one["round"] < number)
            asking = Asking(experiment, InProcess(hospital, halves), counted)
            expected = experiment.algorithm.update(shared_trainer(self.config).start)
            for name in self.last_hospitals[:MOST_HOSPITALS]:
                asked = experiment.algorithm.ask(before.state, name)
                sent = {group: carried(arrays, halves) for group, arrays in asked.items()}
                (reply,) = asking.train(number, [name], before, before.state)
                change = read_update(reply, sent, expected, self.config, number).changes[MODEL]
                model = dict(before.models[""])
                for array, value in change.items():
                    model[array] = value if experiment.algorithm.whole else sent[MODEL][array] + value
                yield name, model

    def _experiment(self) -> Experiment:
        return Experiment(self.config, self.run, self.store, self.run.partition(), Watcher(), threading.Event())

    def _rows(self, target: str, model: Arrays, earlier: Arrays, members: _Set) -> Iterator[Row]:
        losses = [self._losses(model, *images) for images in (members, self.others)]
        before = [self._losses(earlier, *images) for images in (members, self.others)]
        yield Row(target, LOSS, success(-losses[0], -losses[1]))
        yield Row(target, CALIBRATED, success(before[0] - losses[0], before[1] - losses[1]))

    def _losses(self, model: Arrays, images: Images, masks: Images) -> NDArray[np.float64]:
        losses = shared_trainer(self.config).evaluate(model, images, masks).losses
        if not np.isfinite(losses).all():
            raise FedpolypError(f"{self.run.path}: the loss of a model is not a finite number")
        return losses

    def _set(self, name: str, of: str) -> _Set:
        return self._hospital(name).images(of)

    def _hospital(self, name: str) -> Hospital:
        return Hospital(name, self.config, self.store, self.hospitals[name], self.run.state / name)
