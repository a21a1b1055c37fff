"""Has hospitals score the models on their own validation and test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.algorithms.base import Groups
from fedpolyp.checkpoints import judged
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.packing import carried_bytes
from fedpolyp.exchange.replies import Reply
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.rounds.replies import BadReply, read_scores
from fedpolyp.rounds.sampling import sample
from fedpolyp.runs import RoundRecord


@dataclass
class _Scores(Observer):
    """Asks hospitals for scores, and reads what they reply."""

    experiment: Experiment
    asking: Asking
    counts: ImageCounts

    @cached_property
    def panel(self) -> Sequence[str]:
        """The hospitals that score each round's model: as many as train in a round, the same all along.

        So rounds can be compared, and what a round costs does not grow with the number of hospitals.
        """
        hospitals = self.experiment.hospitals
        return sample(list(hospitals), self.experiment.config, 0) if self.experiment.algorithm.federated else hospitals

    def _ask(self, round: Round, score_set: str, hospitals: Sequence[str], distances: bool = False) -> Iterator[Reply]:
        model = next(iter(round.checkpoint.models.values()))
        round.record.bytes_down += carried_bytes(model, self.experiment.rounds_values) * len(hospitals)
        return self.asking.score(round.number, round.checkpoint.state, score_set, hospitals, distances)

    def _scored(
        self, replies: Iterator[Reply], score_set: str, record: RoundRecord, distances: bool = False
    ) -> dict[str, Arrays]:
        """The scores in `replies` by hospital, and into the record what they say of each."""
        scored = {}
        for reply in replies:
            try:
                scored[reply.hospital] = self._read(reply, score_set, distances)
            except BadReply as error:
                self.experiment.refuse(record, reply.hospital, str(error))
        images = {name: len(scores["counts"]) for name, scores in scored.items()}
        for name, reason in self.counts.outsized(score_set, images).items():
            self.experiment.refuse(record, name, reason)
            del scored[name]
        for name, scores in scored.items():
            self.counts.learn(name, score_set, images[name])
            about = {f"{score_set}_dice": _mean(metrics.dice(scores["counts"])), f"{score_set}_images": images[name]}
            record.hospital(name).update(about)
        return scored

    def _read(self, reply: Reply, score_set: str, distances: bool) -> Arrays:
        scores = read_scores(reply, self.experiment.config.data.image_size, distances)
        if fault := self.counts.fault(reply.hospital, score_set, len(scores["counts"])):
            raise BadReply(fault)
        return scores


@dataclass
class Validation(_Scores):
    """Has each round's models validated, which tells the best rounds."""

    validators: list[str] = field(default_factory=list)  # who validated the first round that was validated
    _replies: Iterator[Reply] = field(default_factory=lambda: iter(()))

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        self._replies = self._ask(round, "val", self.panel)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        round.record.val_dice, means = self._val_dice(self._scored(self._replies, "val", round.record), round.record)
        round.checkpoint = judged(round.checkpoint, means)

    def _val_dice(
        self, scored: Mapping[str, Arrays], record: RoundRecord
    ) -> tuple[float | None, dict[str, float | None]]:
        """Mean over the validation images of the hospitals that the run's first validated round was validated by.

        Over all of them, and over those of each model. So like is compared with like: None when one of them is missing,
        for the mean over the others is another.
        """
        if not self.validators:
            rounds = (own["hospitals"] for own in (*self.experiment.run.rounds(), {"hospitals": record.hospitals}))
            by = (sorted(name for name, own in hospitals.items() if "val_dice" in own) for hospitals in rounds)
            self.validators.extend(next(filter(None, by), []))
        if missing := [name for name in self.validators if name not in scored]:
            self.experiment.watcher.note(
                f"round {record.round} cannot be the best on validation: the others were validated by "
                f"{', '.join(missing)}, too"
            )
            return None, {}
        dices = {name: metrics.dice(scored[name]["counts"]) for name in self.validators}
        of_model: dict[str, list[NDArray[np.float64]]] = {}
        for name, own in dices.items():
            of_model.setdefault(self.experiment.algorithm.model_of(name), []).append(own)
        means = {mark: _mean(np.concatenate(own)) for mark, own in of_model.items()}
        return _mean(np.concatenate([np.zeros(0), *dices.values()])), means


@dataclass
class Tests(_Scores):
    """Has the last round's models tested, and each round's where there is no held-out set: then that is the score."""

    newest: dict[str, Arrays] = field(default_factory=dict)  # test scores of the last round, by hospital
    own: dict[str, Arrays] = field(default_factory=dict)  # of each hospital's fine-tuned model
    round: int = -1  # which `newest` is of
    _replies: Iterator[Reply] | None = None

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        self._replies = None
        if round.last:
            self._replies = self._ask(round, "test", self.experiment.hospitals, distances=True)
        elif self.experiment.store is None:
            self._replies = self._ask(round, "test", self.panel)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        if round.last and (self._replies is None or self.experiment.store is None):
            # Only now is it known to be the last.
            self._replies = self._ask(round, "test", self.experiment.hospitals, distances=True)
        if self._replies is None:
            return
        test = self._scored(self._replies, "test", round.record, distances=round.last)
        if round.last:
            self.newest, self.round = test, round.number
            for name, scores in self.fine_tuned(round.number, round.checkpoint.state):
                if isinstance(scores, BadReply):
                    self.experiment.refuse(round.record, name, str(scores))
                else:
                    self.own[name] = scores
                    round.record.hospital(name)["own_test_dice"] = _mean(metrics.dice(scores["counts"]))
        if self.experiment.store is None:
            round.record.scores = _means(test, round.record)

    def scores(self, round: int, state: Groups, may_be_known: bool) -> Iterator[tuple[str, Arrays | BadReply]]:
        """Every hospital's test scores of the models of `state`, of `round`, or why there are none.

        Those that `see` has taken of the last round are not asked for again where they `may_be_known`.
        """
        if may_be_known and round == self.round:
            yield from self.newest.items()
            return
        yield from self._read_all(self.asking.score(round, state, "test", self.experiment.hospitals, distances=True))

    def fine_tuned(self, round: int, state: Groups) -> Iterator[tuple[str, Arrays | BadReply]]:
        """The test scores of each hospital's own model, where the algorithm has them trained after the last round."""
        if not self.experiment.algorithm.fine_tunes:
            return
        if round == self.round and self.own:
            yield from self.own.items()
            return
        hospitals = self.experiment.hospitals
        yield from self._read_all(self.asking.score(round, state, "test", hospitals, distances=True, own=True))

    def _read_all(self, replies: Iterator[Reply]) -> Iterator[tuple[str, Arrays | BadReply]]:
        for reply in replies:
            try:
                yield reply.hospital, self._read(reply, "test", distances=True)
            except BadReply as error:
                yield reply.hospital, error


def _means(test: Mapping[str, Arrays], record: RoundRecord) -> dict[str, float]:
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
