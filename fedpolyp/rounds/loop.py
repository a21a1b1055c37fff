"""The loop: a round is the hospitals' training, what the algorithm makes of it, and what the observers see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import numpy as np

from fedpolyp import checkpoints
from fedpolyp.aggregation.aggregate import Aggregate, Update
from fedpolyp.aggregation.opaque import Opaque
from fedpolyp.algorithms.base import Groups, Start, models
from fedpolyp.checkpoints import Best, Checkpoint
from fedpolyp.divergence import diverged
from fedpolyp.errors import FedpolypError, Interrupted, UsageError
from fedpolyp.exchange.packing import carried, carried_bytes
from fedpolyp.exchange.replies import Exchange, Reply
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.secure_sum import SEED_BYTES
from fedpolyp.privacy.words import NO_HELD_OUT
from fedpolyp.rounds.absence import absent, refuse_impossible
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.counted import Counted
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.judging import comparable
from fedpolyp.rounds.observers import Observer, Round, observers_of
from fedpolyp.rounds.replies import BadReply, NotFinite, read_masked, read_opening, read_update, updated
from fedpolyp.rounds.sampling import sample
from fedpolyp.runs import RoundRecord, RunFolder
from fedpolyp.training import shared_trainer

MOST_LOST = 3  # rounds in a row whose secure sums stay closed; then the run stops, and somebody should find out why
_STAGES = 83  # its own stream of random numbers


def carry(experiment: Experiment, exchange: Exchange) -> None:
    """Carry the run from its newest checkpoint, or from the start, to its last round.

    Raises:
        FedpolypError: too few hospitals replied, or too few for the algorithm; a training diverged, or the run folder
            cannot be resumed from.
        Interrupted: the experiment's `stop` was set; the run folder holds every complete round.
    """
    run, rounds = experiment.run, experiment.config.federation.rounds
    checkpoint = _newest_checkpoint(experiment)
    if experiment.config.privacy.on and experiment.store is None:
        raise UsageError(NO_HELD_OUT)
    records = {} if experiment.store is None else {record.id: record for record in experiment.store.records}
    done, simulated = 0 if checkpoint is None else checkpoint.round, not experiment.name_at_sites
    refuse_impossible(experiment.config, experiment.partition, done, records if simulated else None)
    experiment.watcher.started(experiment.config, experiment.partition, -1 if checkpoint is None else checkpoint.round)
    exchange.connect(experiment.hospitals, experiment.needed(len(experiment.hospitals)))
    asking = Asking(experiment, exchange, Counted.of(run.rounds()))
    loop = _Loop(experiment, exchange, asking, ImageCounts.in_run(experiment))
    observers = observers_of(experiment, asking, loop.counts)
    if checkpoint is None:
        trainer = shared_trainer(experiment.config)
        state = experiment.algorithm.begin(Start(trainer.initial, trainer.start.optimizer))
        start = Checkpoint(0, run.fingerprint(), state, dict.fromkeys(models(state), Best()))
        checkpoint = _seen(observers, Round(start, RoundRecord(0), last=not rounds)).checkpoint
    over = bool(run.stopped)
    while checkpoint.round < rounds and not over:
        if experiment.stop.is_set():
            raise Interrupted(f"interrupted after round {checkpoint.round}")
        number = checkpoint.round + 1
        record = RoundRecord(number)
        state = loop.next(checkpoint, record)
        after = Checkpoint(number, checkpoint.fingerprint, state, checkpoint.best)
        seen = _seen(observers, Round(after, record, last=number == rounds))
        checkpoint, over = seen.checkpoint, seen.last
        if record.lost and not over and (row := _lost_in_a_row(run)) >= MOST_LOST:
            raise FedpolypError(f"{row} rounds in a row were lost, the last one for this: {record.lost}")
    if 0 < checkpoint.round <= _lost_in_a_row(run):
        raise FedpolypError(f"all {checkpoint.round} rounds were lost, so nothing was learned: begin another run")
    for observer in observers:
        observer.end(checkpoint)


def _lost_in_a_row(run: RunFolder) -> int:
    """How many rounds at the end of `run` were lost."""
    return len(list(takewhile(lambda record: record.get("lost"), reversed(run.rounds()))))


def _seen(observers: Sequence[Observer], round: Round) -> Round:
    for observer in observers:
        observer.ask(round)
    for observer in observers:
        observer.see(round)
    return round


@dataclass(frozen=True)
class _Loop:
    """One run's rounds of training."""

    experiment: Experiment
    exchange: Exchange
    asking: Asking
    counts: ImageCounts

    def next(self, before: Checkpoint, record: RoundRecord) -> Groups:
        """The state after one more round; `record` learns how it went.

        A round with too few usable updates is tried once more, with the same requests. One whose secure sum stays
        closed is lost: hospitals open no second one, and the state stays as it was.

        Raises:
            FedpolypError: too few hospitals sent usable updates, or too few for the algorithm; a training diverged.
        """
        try:
            try:
                state = self._tried(before, record)
            except TooFew as error:
                if not error.may_pass:
                    raise
                self.experiment.watcher.note(f"{error}; it is tried once more")
                record.start_again()
                state = self._tried(before, record)
        except Closed as error:
            self.experiment.watcher.note(f"round {record.round} is lost: {error}")
            record.lose(str(error))
            return before.state
        for name in record.hospitals:
            self.asking.counted.add(name, record.round)
        return state

    def _tried(self, before: Checkpoint, record: RoundRecord) -> Groups:
        of, number = self.experiment, record.round
        hospitals, missing = list(of.hospitals), dict[str, str]()
        if of.algorithm.federated:  # else every hospital trains in every round, and none can be late for the others
            hospitals = sample(hospitals, of.config, number)
            missing = absent(of.config, of.partition, hospitals, number)
        needed = of.needed(len(hospitals))
        for name, reason in missing.items():
            of.refuse(record, name, reason)
        present = [name for name in hospitals if name not in missing]
        self.exchange.connect(present, min(needed, len(present)))
        draws = np.random.default_rng([of.config.seed, _STAGES, number])
        stages = of.algorithm.stages(present, draws)
        tally = _Tally(record, len(hospitals), needed if of.algorithm.federated else sum(map(len, stages)))
        if len(present) < needed:
            self._refuse_too_few(tally)
        state = before.state
        for stage in stages:
            aggregate, taken = self._aggregate(), 0
            for update in self._updates(stage, before, state, tally):
                self._count(update, record)
                aggregate.add(update)
                taken += 1
            if len(stages) == 1:
                self._refuse_too_few(tally)
            if isinstance(aggregate, Opaque):
                self._open(aggregate, stage, record)
            if taken:
                try:
                    state = of.algorithm.combine(state, aggregate.result())
                except ValueError as error:
                    raise FedpolypError(f"round {number} stopped: {error}") from None
        self._refuse_too_few(tally)
        return state

    def _aggregate(self) -> Aggregate:
        of = self.experiment
        if of.config.privacy.secure_sums:
            return Opaque(updated(of.algorithm.update(shared_trainer(of.config).start), of.config))
        return of.algorithm.aggregate()

    def _open(self, aggregate: Opaque, members: Sequence[str], record: RoundRecord) -> None:
        """Ask the hospitals whose masked updates are in `aggregate` to open it.

        Raises:
            Closed: not all of them did, or the result cannot be a sum.
        """
        of, survivors = self.experiment, tuple(aggregate.hospitals)
        for reply in self.asking.unmask(record.round, members, survivors):
            try:
                opening = read_opening(reply, aggregate.like, lost=len(survivors) < len(members))
            except BadReply as error:
                of.refuse(record, reply.hospital, f"it did not open the sum: {error}")
                continue
            arrays = [opening.words] if opening.words is not None else []
            record.bytes_up += sum(words.nbytes for words in arrays) or SEED_BYTES
            aggregate.open(reply.hospital, opening)
        try:
            aggregate.result()
        except ValueError as error:
            raise Closed(str(error)) from None

    def _updates(self, stage: Sequence[str], before: Checkpoint, state: Groups, tally: "_Tally") -> Iterator[Update]:
        """The updates of the hospitals of `stage` that count, in their order; the others are rejected."""
        of, halves = self.experiment, self.experiment.rounds_values
        # Each group of arrays, as it arrives at all who are sent it; kept itself, too, or its id would be another's.
        arrived: dict[int, tuple[Arrays, Arrays]] = {}
        sent: dict[str, Groups] = {}
        for name in stage:
            asked = of.algorithm.ask(state, name)
            for arrays in asked.values():
                if id(arrays) not in arrived:
                    arrived[id(arrays)] = arrays, carried(arrays, halves)
                if of.algorithm.federated:  # else nothing travels
                    tally.record.bytes_down += carried_bytes(arrays, halves)
            sent[name] = {group: arrived[id(arrays)][1] for group, arrays in asked.items()}
        tally.trained += len(stage)
        replies = self.asking.train(tally.record.round, stage, before, state)
        usable = self._read(replies, sent, tally)
        if not of.algorithm.federated:  # nobody could lie, and each may go its own way
            return usable
        if of.config.privacy.secure_sums:  # nobody can look at one
            return usable
        most = of.config.federation.max_update_norm
        return comparable(usable, most, self.counts, lambda *why: of.refuse(tally.record, *why))

    def _read(self, replies: Iterator[Reply], sent: dict[str, Groups], tally: "_Tally") -> Iterator[Update]:
        of = self.experiment
        expected = of.algorithm.update(shared_trainer(of.config).start)
        for reply in replies:
            try:
                if of.config.privacy.secure_sums:
                    update = read_masked(reply, updated(expected, of.config), of.config)
                else:
                    update = read_update(reply, sent[reply.hospital], expected, of.config)
                part = "units" if of.config.privacy.on else "train"
                if fault := self.counts.fault(reply.hospital, part, update.images):
                    raise BadReply(fault)
            except BadReply as error:
                if not of.algorithm.federated:  # nobody could lie: it is what the training itself came to
                    what = f"round {tally.record.round}: the training of {reply.hospital} has diverged: {error}"
                    raise diverged(what, of.config) from None
                of.refuse(tally.record, reply.hospital, str(error))
                if isinstance(error, NotFinite):
                    tally.not_finite.add(reply.hospital)
                continue
            weight = 1.0 if of.config.federation.weights == "equal" else update.weight
            yield replace(update, weight=weight)

    def _count(self, update: Update, record: RoundRecord) -> None:
        private = self.experiment.config.privacy.on
        self.counts.learn(update.hospital, "units" if private else "train", update.images)
        halves = self.experiment.rounds_values
        if self.experiment.algorithm.federated:
            record.bytes_up += sum(carried_bytes(arrays, halves) for arrays in update.changes.values())
        record.steps += update.steps
        if private:
            record.hospital(update.hospital).update(units=update.images, epsilon=update.epsilon)
        else:
            record.hospital(update.hospital).update(images=update.images, train_loss=update.loss)

    def _refuse_too_few(self, tally: "_Tally") -> None:
        record = tally.record
        if len(record.hospitals) >= tally.needed:
            return
        if len(tally.not_finite) >= tally.needed:
            who = ", ".join(sorted(tally.not_finite))
            raise diverged(f"round {record.round}: the training has diverged at {who}", self.experiment.config)
        reasons = "; ".join(f"{refusal['hospital']}: {refusal['reason']}" for refusal in record.refused)
        raise TooFew(
            f"round {record.round} stopped: {len(record.hospitals)} of {tally.asked} hospitals sent usable replies, "
            f"{tally.needed} are needed ({reasons})",
            may_pass=bool(tally.trained) and not tally.not_finite,
        )


class TooFew(FedpolypError):
    """Too few hospitals sent usable updates; whether that `may_pass` when they are asked again."""

    def __init__(self, message: str, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Closed(Exception):
    """A secure sum that cannot be read, because a hospital in it did not open it."""


@dataclass
class _Tally:
    """How a round goes."""

    record: RoundRecord
    asked: int
    needed: int
    not_finite: set[str] = field(default_factory=set)  # whose training diverged
    trained: int = 0  # that were asked


def _newest_checkpoint(experiment: Experiment) -> Checkpoint | None:
    run = experiment.run
    like = experiment.algorithm.begin(shared_trainer(experiment.config).start)
    checkpoint = checkpoints.latest(run.checkpoints, run.fingerprint(), experiment.watcher.note, like)
    if checkpoint is not None:
        run.rewind(checkpoint.round)
    else:
        run.start_over()
    return checkpoint
