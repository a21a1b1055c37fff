"""Has hospitals score the models on their own validation and test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.algorithms.base import Groups
from fedpolyp.errors import FedpolypError
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
class HospitalScores(Observer):
    """Each round is validated; the last one, or each where there is no held-out set, is tested, too."""

    experiment: Experiment
    asking: Asking
    counts: ImageCounts
    validators: list[str] = field(default_factory=list)  # who validated the first round that was validated
    newest: dict[str, Arrays] = field(default_factory=dict)  # test scores of the last round, by hospital
    round: int = -1  # which `newest` is of
    _val: Iterator[Reply] = field(default_factory=lambda: iter(()))
    _test: Iterator[Reply] = field(default_factory=lambda: iter(()))

    @cached_property
    def panel(self) -> Sequence[str]:
        """The hospitals that validate each round's model: as many as train in a round, the same all along.

        So rounds can be compared, and what a round costs does not grow with the number of hospitals.
        """
        hospitals = self.experiment.hospitals
        return sample(list(hospitals), self.experiment.config, 0) if self.experiment.algorithm.federated else hospitals

    def ask(self, round: Round) -> None:
        """See `Observer`."""
        model = sum(array.nbytes for array in next(iter(round.checkpoint.models.values())).values())
        self._val = self.asking.score(round.number, round.checkpoint.state, "val", self.panel)
        round.record.bytes_down += model * len(self.panel)
        self._test = iter(())
        if round.last or self.experiment.store is None:
            tested = self.experiment.hospitals if round.last else self.panel
            self._test = self.asking.score(round.number, round.checkpoint.state, "test", tested, distances=round.last)
            round.record.bytes_down += model * len(tested)

    def see(self, round: Round) -> None:
        """See `Observer`."""
        val = self._scored(self._val, "val", round.record)
        test = self._scored(self._test, "test", round.record, distances=round.last)
        if round.last:
            self.newest, self.round = test, round.number
        if self.experiment.store is None:
            round.record.scores = _means(test, round.record)
        round.record.val_dice, round.val_dice = self._val_dice(val, round.record)

    def test(self, round: int, state: Groups, may_be_known: bool) -> Iterator[tuple[str, Arrays | BadReply]]:
        """Every hospital's test scores of the models of `state`, of `round`, or why there are none.

        Those that `see` has taken of the last round are not asked for again where they `may_be_known`.
        """
        if may_be_known and round == self.round:
            yield from self.newest.items()
            return
        for reply in self.asking.score(round, state, "test", self.experiment.hospitals, distances=True):
            try:
                yield reply.hospital, self._read(reply, "test", distances=True)
            except BadReply as error:
                yield reply.hospital, error

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
