"""Scores all images with the last models and those best on validation: images.csv."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedpolyp import checkpoints, metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.observers.heldout import HeldOut
from fedpolyp.rounds.observers.hospital_scores import Tests
from fedpolyp.rounds.observers.observer import Observer
from fedpolyp.rounds.observers.unseen import Unseen
from fedpolyp.rounds.replies import BadReply
from fedpolyp.runs import ScoredImage, ScoredSet, model_name, scored_images
from fedpolyp.training import Images


@dataclass
class ScoredImages(Observer):
    """Writes images.csv, and the last models' predictions in the held-out and unseen images: predictions*.npz."""

    heldout: HeldOut
    unseen: Unseen
    tests: Tests

    def end(self, last: Checkpoint) -> None:
        """See `Observer`."""
        of = self.experiment
        predicted: dict[str, dict[str, Images]] = {}  # by source, '' for the held-out set, and mark
        # By model: a last model that is also the best is scored once.
        known: dict[tuple[str, int], list[ScoredSet]] = {}
        rows: list[ScoredImage] = []
        for kind in ("last", "best"):
            for mark, best in last.best.items():
                round = last.round if kind == "last" else best.round
                if (mark, round) not in known:
                    known[mark, round] = list(self._scored(self._model(last, round), mark, predicted))
                for scored in known[mark, round]:
                    rows += scored_images(of.config.label, of.config.seed, model_name(kind, mark), round, *scored)
        for scored in self._tested(self.tests.fine_tuned(last)):
            rows += scored_images(of.config.label, of.config.seed, "own", last.round, *scored)
        for source, by_mark in predicted.items():
            of.run.write_predictions({model_name("last", mark): masks for mark, masks in by_mark.items()}, source)
        of.run.write_images(rows)

    def _model(self, last: Checkpoint, round: int) -> Checkpoint:
        run = self.experiment.run
        if round == last.round:
            return last
        return checkpoints.load(run.checkpoints, round, run.fingerprint(), like=last.state)

    def _scored(self, model: Checkpoint, mark: str, predicted: dict[str, dict[str, Images]]) -> Iterator[ScoredSet]:
        """All sets, scored by one model; the predictions of a mark's first model, the last one, are added to
        `predicted`.
        """
        if self.experiment.store is not None:
            evaluation = self.heldout.evaluation(model, mark)
            predicted.setdefault("", {}).setdefault(mark, evaluation.predicted)
            distances = metrics.hd95(evaluation.predicted, self.heldout.images[1])
            yield "heldout", self.experiment.partition.heldout, evaluation.counts, distances
            for source, scored, seen in self.unseen.scores(model, mark):
                predicted.setdefault(source, {}).setdefault(mark, seen)
                yield scored
        yield from self._tested(self.tests.scores(model, mark))

    def _tested(self, tests: Iterator[tuple[str, Arrays | BadReply]]) -> Iterator[ScoredSet]:
        of = self.experiment
        for hospital, scores in tests:
            if isinstance(scores, BadReply):
                of.watcher.note(f"the scores of {hospital} are missing from images.csv: {scores}")
                continue
            ids = of.partition.hospitals[hospital].test
            if of.name_at_sites:  # real sites send no names: their images are numbered
                ids = tuple(f"{number:05d}" for number in range(len(scores["counts"])))
            yield f"test:{hospital}", ids, scores["counts"], scores["hd95"]
