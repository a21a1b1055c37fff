"""A round of training: who is asked, whose update counts, and what the algorithm makes of the updates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedpolyp.aggregation.aggregate import Aggregate, Update
from fedpolyp.aggregation.opaque import Opaque
from fedpolyp.algorithms.base import Groups
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.divergence import diverged
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.packing import carried, carried_bytes
from fedpolyp.exchange.replies import Exchange, Reply
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.secure_sum import SEED_BYTES
from fedpolyp.rounds.absence import absent
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.judging import comparable
from fedpolyp.rounds.replies import BadReply, NotFinite, read_masked, read_opening, read_update, updated
from fedpolyp.rounds.sampling import sample
from fedpolyp.rounds.state import combined, refuse_unlike
from fedpolyp.runs import RoundRecord
from fedpolyp.training import shared_trainer

_STAGES = 83  # its own stream of random numbers


@dataclass(frozen=True)
class Training:
    """The training of one round after another: the requests, the updates that count, and their aggregate."""

    experiment: Experiment
    exchange: Exchange
    asking: Asking
    counts: ImageCounts

    def next_state(self, before: Checkpoint, record: RoundRecord) -> Groups:
        """The state after one more round; `record` learns how it went.

        A round with too few usable updates is tried once more, with the same requests. One whose secure sum stays
        closed is lost: hospitals open no second one, and the state stays as it was.

        Raises:
            FedpolypError: too few hospitals sent usable updates, or too few for the algorithm; a training diverged; the
            algorithm makes no state of them.
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
                    state = combined(of.algorithm, state, aggregate.result())
                except ValueError as error:
                    raise FedpolypError(f"round {number} stopped: {error}") from None
        self._refuse_too_few(tally)
        refuse_unlike(of.algorithm, before.state, state)
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
            record.bytes_up += SEED_BYTES if opening.words is None else opening.words.nbytes
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
        tally.asked += len(stage)
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
                    update = read_update(reply, sent[reply.hospital], expected, of.config, tally.record.round)
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
            f"round {record.round} stopped: {len(record.hospitals)} of {tally.drawn} hospitals sent usable replies, "
            f"{tally.needed} are needed ({reasons})",
            may_pass=bool(tally.asked) and not tally.not_finite,
        )


class TooFew(FedpolypError):
    """Too few hospitals sent usable updates; `may_pass`: whether there may be enough when they are asked again."""

    def __init__(self, message: str, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Closed(Exception):
    """A secure sum that cannot be read, because a hospital in it did not open it."""


@dataclass
class _Tally:
    """How a round goes."""

    record: RoundRecord
    drawn: int  # hospitals, with those that are absent
    needed: int  # usable updates
    not_finite: set[str] = field(default_factory=set)  # whose training diverged
    asked: int = 0  # hospitals that were asked to train
