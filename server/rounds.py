"""The federation: rounds of training at the hospitals, averaging, scoring and saving."""

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from clients.messages import Order, to_record
from fedpolyp import checkpoints, metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config, DataConfig
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.store import Store
from fedpolyp.divergence import diverged
from fedpolyp.errors import FedpolypError
from fedpolyp.model.arrays import Arrays
from fedpolyp.runs import RoundRecord, RunFolder, ScoredImage, scored_images
from fedpolyp.training import expected, learning_rate, shared_trainer
from fedpolyp.watcher import Watcher
from server.exchange import Interrupted, Reply, Seats
from server.heldout import HeldOut
from server.image_counts import ImageCounts
from server.judging import comparable
from server.replies import BadReply, NotFinite, Update, read_scores, read_update
from server.sampling import sample
from server.strategies import WeightedMean

_SEATS_TIMEOUT = 120.0


@dataclass(frozen=True)
class Federation:
    """One run of federated training: everything it needs, nothing it changes but the run folder."""

    config: Config
    run: RunFolder
    store: Store | None  # None where the coordinator has no images: then the hospitals' own test sets count
    partition: Partition
    watcher: Watcher
    stop: threading.Event
    name_at_sites: str = ""  # by which real sites know this run; '' in a simulation
    registered: Mapping[str, int] = field(default_factory=dict)  # images that real sites may have, where agreed

    def run_on(self, grid: Grid, seats: int = 1, actors: int | None = None) -> None:
        """Carry the run from its newest checkpoint, or from the start, to its last round.

        Args:
            grid: Flower's way to the nodes.
            seats: how many nodes to wait for before the first order is sent.
            actors: how many processes play the nodes, where that is known: one more means that one has died.

        Raises:
            FedpolypError: too few nodes or hospitals replied, or the run folder cannot be resumed from.
            Interrupted: `stop` was set; the run folder holds every complete round.
        """
        everyone = sorted(self.partition.hospitals)
        checkpoint = self._newest_checkpoint()
        self.watcher.started(self.config, self.partition, -1 if checkpoint is None else checkpoint.round)
        heldout = None if self.store is None else HeldOut.of(self.store, self.partition.heldout, self.config)
        timeout = self.config.federation.round_timeout
        if self.name_at_sites:
            table = Seats(grid, (), self.stop, timeout, own_names=True)
            table.connect(everyone, self.needed(len(everyone)), _SEATS_TIMEOUT, self.watcher.note)
        else:
            sizes = {name: len(images.train) for name, images in self.partition.hospitals.items()}
            table = Seats.wait(grid, seats, self.stop, _SEATS_TIMEOUT, timeout, actors, sizes)
        rounds = Rounds(self, table, heldout, everyone)
        if checkpoint is None:
            checkpoint = rounds.initial()
        for number in range(checkpoint.round + 1, self.config.federation.rounds + 1):
            if self.stop.is_set():
                raise Interrupted(f"interrupted after round {checkpoint.round}")
            checkpoint = rounds.next(checkpoint, sample(everyone, self.config, number))
        self.run.write_images(rounds.scored_images(checkpoint))

    def needed(self, asked: int) -> int:
        """How many of so many hospitals must reply usably for a round to count."""
        # As it was typed: 0.28 times 25 is 7, and the float nearest to 0.28 is a little more.
        return max(1, math.ceil(Fraction(str(self.config.federation.min_replies)) * asked))

    def _newest_checkpoint(self) -> Checkpoint | None:
        fingerprint, like = self.run.fingerprint(), expected(self.config)
        checkpoint = checkpoints.latest(self.run.checkpoints, fingerprint, self.watcher.note, like)
        if checkpoint is not None:
            self.run.rewind(checkpoint.round)
        else:
            self.run.start_over()
        return checkpoint


@dataclass(frozen=True)
class Rounds:
    """The rounds of a federation, each from one checkpoint to the next."""

    federation: Federation
    seats: Seats
    heldout: HeldOut | None
    everyone: list[str]
    validators: list[str] = field(default_factory=list)  # who validated the first round that was validated

    @property
    def config(self) -> Config:
        """The experiment's config."""
        return self.federation.config

    @cached_property
    def counts(self) -> ImageCounts:
        """How many images each hospital has."""
        if self.federation.name_at_sites:
            return ImageCounts.at_sites(self.federation.run.rounds(), self.federation.registered)
        return ImageCounts.of(self.federation.partition)

    @property
    def panel(self) -> list[str]:
        """The hospitals that validate each round's model: as many as train in a round, the same all along.

        So rounds can be compared, and what a round costs does not grow with the number of hospitals.
        """
        return sample(self.everyone, self.config, 0)

    def initial(self) -> Checkpoint:
        """Round 0: the initial weights, scored and saved."""
        trainer = shared_trainer(self.config)
        moments = trainer.fresh_optimizer if self._averages_moments else {}
        start = Checkpoint(
            0, self.federation.run.fingerprint(), trainer.initial, moments, best_round=0, best_val_dice=-1.0
        )
        return self._score_and_save(start, RoundRecord(0))

    def next(self, before: Checkpoint, hospitals: list[str]) -> Checkpoint:
        """One round of federated averaging: train at `hospitals`, average weighted by images, score, save.

        Raises:
            FedpolypError: too few of them sent usable weights.
        """
        record = RoundRecord(before.round + 1)
        rate = learning_rate(self.config, record.round)
        keep_from = checkpoints.oldest(self.federation.run.checkpoints)
        needed = self.federation.needed(len(hospitals))
        self.seats.connect(hospitals, needed, 0, self.federation.watcher.note)
        orders = [self._order(name, record.round, learning_rate=rate, keep_state_from=keep_from) for name in hospitals]
        record.bytes_down += (_bytes(before.arrays) + _bytes(before.strategy)) * len(orders)
        optimizer = to_record(before.strategy) if self._averages_moments else None
        weights, moments = WeightedMean(), WeightedMean()
        replies, not_finite = self._send("train", "train", orders, before.arrays, optimizer), set[str]()
        updates = self._updates(replies, before, record, not_finite)
        most = self.config.federation.max_update_norm
        for name, update in comparable(updates, before, most, self.counts, lambda *why: self._refuse(record, *why)):
            self.counts.learn(name, "train", update.images)
            weights.add(update.arrays, update.images)
            moments.add(update.moments, update.images)
            record.bytes_up += _bytes(update.arrays) + _bytes(update.moments)
            record.steps += update.steps
            record.hospital(name).update(images=update.images, train_loss=update.loss)
        if len(record.hospitals) < needed:
            if len(not_finite) >= needed:
                who = ", ".join(sorted(not_finite))
                raise diverged(f"round {record.round}: the training has diverged at {who}", self.config)
            reasons = "; ".join(f"{refusal['hospital']}: {refusal['reason']}" for refusal in record.refused)
            raise FedpolypError(
                f"round {record.round} stopped: {len(record.hospitals)} of {len(orders)} hospitals replied usably, "
                f"{needed} are needed ({reasons})"
            )
        after = replace(
            before,
            round=record.round,
            arrays=weights.result(before.arrays),
            strategy=moments.result(before.strategy) if before.strategy else {},
        )
        return self._score_and_save(after, record)

    def scored_images(self, last: Checkpoint) -> Iterator[ScoredImage]:
        """Every held-out and test image, scored by the last model and by the one that was best on validation.

        What the last model sees in the held-out images is written to the run folder.
        """
        run, like = self.federation.run, expected(self.config)
        best = checkpoints.load(run.checkpoints, last.best_round, run.fingerprint(), like=like)
        for name, model in (("last", last), ("best", best)):
            replies = self._ask_scores(model, "test", self.everyone, distances=True)
            about = (self.config.arm_label, self.config.seed, name, model.round)
            if self.heldout is not None:
                seen = self.heldout.predict(model.arrays)
                if model is last:
                    self.federation.run.write_predictions({name: seen})
                yield from scored_images(*about, "heldout", self.heldout.ids, *self.heldout.compare(seen))
            for reply in replies:
                try:
                    scores = self._read_scores(reply, "test", "hd95")
                except BadReply as error:
                    self.federation.watcher.note(f"the scores of {reply.hospital} are missing from images.csv: {error}")
                    continue
                ids = self.federation.partition.hospitals[reply.hospital].test
                if self.federation.name_at_sites:  # real sites tell no names: their images are numbered
                    ids = tuple(f"{number:05d}" for number in range(len(scores["counts"])))
                yield from scored_images(*about, f"test:{reply.hospital}", ids, scores["counts"], scores["hd95"])

    def _score_and_save(self, model: Checkpoint, record: RoundRecord) -> Checkpoint:
        """Score the model here and at the hospitals; write the record, then the checkpoint."""
        last = model.round == self.config.federation.rounds
        val_replies = self._ask_scores(model, "val", self.panel)
        test_replies: Iterator[Reply] = iter(())
        if last or self.heldout is None:
            tested = self.everyone if last else self.panel
            test_replies = self._ask_scores(model, "test", tested)
            record.bytes_down += _bytes(model.arrays) * len(tested)
        record.bytes_down += _bytes(model.arrays) * len(self.panel)
        if self.heldout is not None:
            record.scores = self.heldout.score(model.arrays)  # while the hospitals score theirs
            if not all(map(math.isfinite, record.scores.values())):
                raise diverged(f"round {model.round}: the held-out loss of the model is no finite number", self.config)
        val, test = self._scored(val_replies, "val", record), self._scored(test_replies, "test", record)
        if self.heldout is None:
            record.scores = _scores_of_all(test, record)
        record.val_dice = self._val_dice(val, record)
        model = checkpoints.judged(model, record.val_dice)
        self.federation.run.append_round(record.to_plain())
        checkpoints.save(self.federation.run.checkpoints, model, self.config.runtime.keep_checkpoints)
        self.federation.watcher.finished_round(record.to_plain())
        return model

    def _ask_scores(
        self, model: Checkpoint, score_set: str, hospitals: list[str], distances: bool = False
    ) -> Iterator[Reply]:
        orders = [self._order(name, model.round, score_set=score_set, distances=distances) for name in hospitals]
        return self._send("evaluate", score_set, orders, model.arrays)

    def _updates(
        self, replies: Iterator[Reply], before: Checkpoint, record: RoundRecord, not_finite: set[str]
    ) -> Iterator[tuple[str, Update]]:
        """The updates in `replies`, by hospital; the others are refused, and who diverged is added to `not_finite`."""
        for reply in replies:
            try:
                update = read_update(reply, before, self.config)
                if fault := self.counts.fault(reply.hospital, "train", update.images):
                    raise BadReply(fault)
            except BadReply as error:
                self._refuse(record, reply.hospital, str(error))
                if isinstance(error, NotFinite):
                    not_finite.add(reply.hospital)
                continue
            yield reply.hospital, update

    def _scored(self, replies: Iterator[Reply], score_set: str, record: RoundRecord) -> dict[str, Arrays]:
        """The scores in `replies` by hospital, and into the record what they say of each."""
        scored = {}
        for reply in replies:
            try:
                scored[reply.hospital] = self._read_scores(reply, score_set, "losses")
            except BadReply as error:
                self._refuse(record, reply.hospital, str(error))
        images = {name: len(scores["counts"]) for name, scores in scored.items()}
        for name, reason in self.counts.outsized(score_set, images).items():
            self._refuse(record, name, reason)
            del scored[name]
        for name, scores in scored.items():
            self.counts.learn(name, score_set, images[name])
            about = {f"{score_set}_dice": _mean(metrics.dice(scores["counts"])), f"{score_set}_images": images[name]}
            record.hospital(name).update(about)
        return scored

    def _read_scores(self, reply: Reply, score_set: str, also: str) -> Arrays:
        scores = read_scores(reply, also, self.config.data.image_size)
        if fault := self.counts.fault(reply.hospital, score_set, len(scores["counts"])):
            raise BadReply(fault)
        return scores

    def _val_dice(self, scored: dict[str, Arrays], record: RoundRecord) -> float | None:
        """Mean over the validation images of the hospitals that the run's first validated round was validated by.

        So like is compared with like: None when one of them is missing, for the mean over the others is another.
        """
        if not self.validators:
            rounds = (own["hospitals"] for own in (*self.federation.run.rounds(), {"hospitals": record.hospitals}))
            by = (sorted(name for name, own in hospitals.items() if "val_dice" in own) for hospitals in rounds)
            self.validators.extend(next(filter(None, by), []))
        if missing := [name for name in self.validators if name not in scored]:
            self.federation.watcher.note(
                f"round {record.round} cannot be the best on validation: the others were validated by "
                f"{', '.join(missing)}, too"
            )
            return None
        return _mean(np.concatenate([np.zeros(0), *(metrics.dice(scored[name]["counts"]) for name in self.validators)]))

    def _send(
        self, kind: str, task: str, orders: list[Order], arrays: Arrays, optimizer: ArrayRecord | None = None
    ) -> Iterator[Reply]:
        watcher, number = self.federation.watcher, orders[0].round
        watcher.asked(number, task, [order.hospital for order in orders])

        def arrived(reply: Reply) -> None:
            if process := self.seats.replacement(reply):
                watcher.note(f"round {number}: a training process died; process {process} took its place")
            watcher.replied(number, task, reply.hospital, reply.reason)

        return self.seats.send(kind, orders, to_record(arrays), optimizer, arrived, watcher.note)

    def _order(self, hospital: str, number: int, **details: Any) -> Order:
        if self.federation.name_at_sites or self.federation.store is None:
            # What the coordinator's own folders are called is no business of the sites.
            for_sites = Config(
                seed=self.config.seed,
                data=DataConfig(image_size=self.config.data.image_size),
                model=self.config.model.architecture,
                training=self.config.training,
                federation=self.config.federation,
            )
            return Order(hospital, number, for_sites.model_dump_json(), run=self.federation.name_at_sites, **details)
        run, store = self.federation.run.path.resolve(), self.federation.store.path.resolve()
        config = self.config.model_dump_json()
        return Order(hospital, number, config, run_folder=str(run), store=str(store), **details)

    def _refuse(self, record: RoundRecord, hospital: str, reason: str) -> None:
        refusal = {"hospital": hospital, "reason": reason}
        if refusal in record.refused:  # a site that is not connected is so for every message of the round
            return
        record.refused.append(refusal)
        self.federation.watcher.note(f"round {record.round}: the reply of {hospital} does not count: {reason}")

    @property
    def _averages_moments(self) -> bool:
        return self.config.training.optimizer_state == "average"


def _scores_of_all(test: dict[str, Arrays], record: RoundRecord) -> dict[str, float]:
    """Mean per-image Dice, IoU and loss over all hospitals' test images, which stand in for a held-out set.

    Raises:
        FedpolypError: no hospital has scored any.
    """
    parts = [scores for scores in test.values() if len(scores["counts"])]
    if not parts:
        reasons = "; ".join(f"{refusal['hospital']}: {refusal['reason']}" for refusal in record.refused)
        raise FedpolypError(
            f"round {record.round}: no hospital has scored a test image ({reasons or 'they have none'})"
        )
    counts = np.concatenate([scores["counts"] for scores in parts])
    losses = np.concatenate([scores["losses"] for scores in parts])
    return {
        "dice": float(metrics.dice(counts).mean()),
        "iou": float(metrics.iou(counts).mean()),
        "loss": float(losses.mean()),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
