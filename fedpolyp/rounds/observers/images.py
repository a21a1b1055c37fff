"""Scores every held-out and test image by the last models and by those that were best on validation: images.csv."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedpolyp import checkpoints, metrics
from fedpolyp.algorithms.base import MODEL
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.model.arrays import Arrays
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.observers.heldout import HeldOut
from fedpolyp.rounds.observers.hospital_scores import Tests
from fedpolyp.rounds.observers.observer import Observer
from fedpolyp.rounds.replies import BadReply
from fedpolyp.runs import ScoredImage, model_name, scored_images
from fedpolyp.training import Images


@dataclass
class ScoredImages(Observer):
    """Writes images.csv, and what the last models see in the held-out images: predictions.npz."""

    experiment: Experiment
    heldout: HeldOut
    tests: Tests

    def end(self, last: Checkpoint) -> None:
        """See `Observer`."""
        predicted: dict[str, Images] = {}
        rows = list(self._rows(last, predicted))
        if predicted:
            self.experiment.run.write_predictions(predicted)
        self.experiment.run.write_images(rows)

    def _rows(self, last: Checkpoint, predicted: dict[str, Images]) -> Iterator[ScoredImage]:
        of = self.experiment
        run, like = of.run, last.state
        for kind in ("last", "best"):
            for mark, best in last.best.items():
                model = last
                if kind == "best" and best.round != last.round:
                    model = checkpoints.load(run.checkpoints, best.round, run.fingerprint(), like=like)
                name = model_name(kind, mark)
                about = (of.config.label, of.config.seed, name, model.round)
                if of.store is not None:
                    evaluation = self.heldout.evaluation(model, mark)
                    distances = metrics.hd95(evaluation.predicted, self.heldout.images[1])
                    yield from scored_images(*about, "heldout", of.partition.heldout, evaluation.counts, distances)
                    if kind == "last":
                        predicted[name] = evaluation.predicted
                yield from self._tested(self._scores_of(model, mark), about)
        about = (of.config.label, of.config.seed, "own", last.round)
        yield from self._tested(self.tests.fine_tuned(last.round, last.state), about)

    def _scores_of(self, model: Checkpoint, mark: str) -> Iterator[tuple[str, Arrays | BadReply]]:
        """How one model does on the test images of every hospital."""
        # In the local arm every hospital scores every model, as if it were its own.
        alone = len(model.best) == 1
        names = self.experiment.hospitals
        state = model.state if alone else {self._group(name): model.models[mark] for name in names}
        return self.tests.scores(model.round, state, may_be_known=alone)

    def _tested(
        self, tests: Iterator[tuple[str, Arrays | BadReply]], about: tuple[str, int, str, int]
    ) -> Iterator[ScoredImage]:
        of = self.experiment
        for hospital, scores in tests:
            if isinstance(scores, BadReply):
                of.watcher.note(f"the scores of {hospital} are missing from images.csv: {scores}")
                continue
            ids = of.partition.hospitals[hospital].test
            if of.name_at_sites:  # real sites tell no names: their images are numbered
                ids = tuple(f"{number:05d}" for number in range(len(scores["counts"])))
            yield from scored_images(*about, f"test:{hospital}", ids, scores["counts"], scores["hd95"])

    def _group(self, hospital: str) -> str:
        mark = self.experiment.algorithm.model_of(hospital)
        return f"{MODEL}:{mark}" if mark else MODEL
