"""Lets hospitals score the models on their own validation and test images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedpolyp import metrics
from fedpolyp.algorithms.base import MODEL, marked
from fedpolyp.checkpoints import Checkpoint, judged
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.packing import carried_bytes
from fedpolyp.exchange.replies import Reply
from fedpolyp.metrics import Counts
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.rounds.replies import BadReply, read_scores
from fedpolyp.rounds.sampling import sample
from fedpolyp.runs import RoundRecord


@dataclass
class _Scores(Observer):
    """Asks hospitals for scores, and reads what they reply."""

    asking: Asking
    counts: ImageCounts

    @cached_property
    def panel(self) -> Sequence[str]:
        """The hospitals that score each round's model: as many as train in a round, and always the same ones.

        So rounds can be compared, and the cost of a round does not grow with the number of hospitals.
        """
        hospitals = self.experiment.hospitals
        return sample(list(hospitals), self.experiment.config, 0) if self.experiment.algorithm.federated else hospitals

    def _ask(
        self, round: Round, score_set: str, hospitals: Sequence[str], distances: bool = False, own: bool = False
    ) -> Iterator[Reply]:
        if self.experiment.config.privacy.on:  # scores would reveal something about the images
            return iter(())
        if self.experiment.algorithm.federated:  # otherwise nothing is sent
            model = next(iter(round.checkpoint.models.values()))
            round.record.bytes_down += carried_bytes(model, self.experiment.rounds_values) * len(hospitals)
        return self.asking.score(round.number, round.checkpoint.state, score_set, hospitals, distances, own)

    def _scored(
        self, replies: Iterator[Reply], score_set: str, record: RoundRecord, distances: bool = False
    ) -> tuple[dict[str, Arrays], dict[str, BadReply]]:
        """The scores in `replies` by hospital, and why others are rejected; both go into the record."""
        scored, refused = dict[str, Arrays](), dict[str, BadReply]()
        for reply in replies:
            try:
                scored[reply.hospital] = self._read(reply, score_set, distances)
            except BadReply as error:
                refused[reply.hospital] = error
                self.experiment.refuse(record, reply.hospital, str(error))
        images = {name: len(scores["counts"]) for name, scores in scored.items()}
        for name, reason in self.counts.outsized(score_set, images).items():
            self.experiment.refuse(record, name, reason)
            refused[name] = BadReply(reason)
            del scored[name]
        for name, scores in scored.items():
            self.counts.learn(name, score_set, images[name])
            about = {f"{score_set}_dice": _dice([scores["counts"]]), f"{score_set}_images": images[name]}
            record.hospital(name).update(about)
        return scored, refused

    def _read(self, reply: Reply, score_set: str, distances: bool) -> Arrays:
        scores = read_scores(reply, self.experiment.config.data.image_size, distances)
        if fault := self.counts.fault(reply.hospital, score_set, len(scores["counts"])):
            raise BadReply(fault)
        return scores


@dataclass
class Validation(_Scores):
    """Lets hospitals validate each round's models; this decides the best rounds."""

    validators: list[str] = field(default_factory=list)  # the hospitals that validated the first validated round
    _replies: Iterator[Reply] = field(default_factory=lambda: iter(()))

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        self._replies = self._ask(round, "val", self.panel)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        scored, _ = self._scored(self._replies, "val", round.record)
        round.record.val_dice, means = self._val_dice(scored, round.record)
        round.checkpoint = judged(round.checkpoint, means)

    def _val_dice(
        self, scored: Mapping[str, Arrays], record: RoundRecord
    ) -> tuple[float | None, dict[str, float | None]]:
        """Mean over the validation images of the hospitals that validated the run's first validated round.

        It is over all of them, and over those of each model. None if one of these hospitals is missing, because the
        mean over the others cannot be compared.
        """
        if not self.validators:
            rounds = (own["hospitals"] for own in (*self.experiment.run.rounds(), {"hospitals": record.hospitals}))
            by = (sorted(name for name, own in hospitals.items() if "val_dice" in own) for hospitals in rounds)
            self.validators.extend(next(filter(None, by), []))
        if missing := [name for name in self.validators if name not in scored]:
            self.experiment.watcher.note(
                f"round {record.round} cannot be the best on validation: the other rounds were also validated by "
                f"{', '.join(missing)}"
            )
            return None, {}
        counts = {name: scored[name]["counts"] for name in self.validators}
        of_model: dict[str, list[Counts]] = {}
        for name, own in counts.items():
            of_model.setdefault(self.experiment.algorithm.model_of(name), []).append(own)
        return _dice(counts.values()), {mark: _dice(own) for mark, own in of_model.items()}


@dataclass
class Tests(_Scores):
    """Lets hospitals test the last round's models; without a held-out set those of each round, as the round's score."""

    # Test scores of the last round by hospital, or why there are none.
    newest: dict[str, Arrays | BadReply] = field(default_factory=dict)
    own: dict[str, Arrays | BadReply] = field(default_factory=dict)  # of each hospital's fine-tuned model
    round: int = -1  # which `newest` is of
    _replies: Iterator[Reply] = field(default_factory=lambda: iter(()))
    _of_all: bool = False  # whether the replies are those of a last round, with distances

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        self._replies, self._of_all = iter(()), round.last
        if round.last:
            self._replies = self._ask(round, "test", self.experiment.hospitals, distances=True)
        elif self.experiment.store is None:
            self._replies = self._ask(round, "test", self.panel)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        if round.last and not self._of_all:  # only now is it known to be the last
            for _ in self._replies:  # the replies that are still to come
                pass
            self._replies = self._ask(round, "test", self.experiment.hospitals, distances=True)
        test, refused = self._scored(self._replies, "test", round.record, distances=round.last)
        if round.last:
            self.newest, self.round = {**test, **refused}, round.number
            self._fine_tune(round)
        if self.experiment.store is None:
            round.record.scores = _means(test, round.record)

    def scores(self, model: Checkpoint, mark: str) -> Iterator[tuple[str, Arrays | BadReply]]:
        """Every hospital's test scores of one of the checkpoint's models, or why there are none.

        Scores that `see` already has for this model are not requested again. With privacy on there are none.
        """
        if self.experiment.config.privacy.on:
            return
        hospitals, model_of = self.experiment.hospitals, self.experiment.algorithm.model_of
        known = {name: own for name, own in self.newest.items() if model.round == self.round and model_of(name) == mark}
        others = [name for name in hospitals if name not in known]
        # A hospital with its own model scores this one instead of its own.
        state = {marked(MODEL, model_of(name)): model.models[mark] for name in others}
        known.update(self._read_all(self.asking.score(model.round, state, "test", others, distances=True)))
        yield from ((name, known[name]) for name in hospitals)

    def fine_tuned(self, last: Checkpoint) -> Iterator[tuple[str, Arrays | BadReply]]:
        """The test scores of each hospital's own model, if the algorithm fine-tunes after the last round."""
        if not self.experiment.algorithm.fine_tunes:
            return
        if last.round != self.round:
            hospitals = self.experiment.hospitals
            replies = self.asking.score(last.round, last.state, "test", hospitals, distances=True, own=True)
            self.own = dict(self._read_all(replies))
        yield from self.own.items()

    def _fine_tune(self, round: Round) -> None:
        if not self.experiment.algorithm.fine_tunes:
            return
        self.own = dict(self._read_all(self._ask(round, "test", self.experiment.hospitals, distances=True, own=True)))
        for name, scores in self.own.items():
            if isinstance(scores, BadReply):
                self.experiment.refuse(round.record, name, str(scores))
            else:
                round.record.hospital(name)["own_test_dice"] = _dice([scores["counts"]])

    def _read_all(self, replies: Iterator[Reply]) -> Iterator[tuple[str, Arrays | BadReply]]:
        for reply in replies:
            try:
                yield reply.hospital, self._read(reply, "test", distances=True)
            except BadReply as error:
                yield reply.hospital, error


def _means(test: Mapping[str, Arrays], record: RoundRecord) -> dict[str, float]:
    """Mean per-image Dice, IoU and loss over all hospitals' test images, instead of a held-out set.

    Raises:
        FedpolypError: no hospital has scored any.
    """
    parts = [scores for scores in test.values() if len(scores["counts"])]
    if not parts:
        reasons = "; ".join(f"{refusal['hospital']}: {refusal['reason']}" for refusal in record.refused)
        raise FedpolypError(
            f"round {record.round}: no hospital has scored a test image ({reasons or 'they have none'})"
        )
    return metrics.means(*(np.concatenate([scores[part] for scores in parts]) for part in ("counts", "losses")))


def _dice(counts: Iterable[Counts]) -> float | None:
    """Mean Dice over all images with a polyp; None if there are no images, or none with a polyp."""
    every = np.concatenate([np.zeros((0, 4), np.int64), *counts])
    there = every[every[:, 0] + every[:, 2] > 0]
    return float(metrics.dice(there).mean()) if len(there) else None
