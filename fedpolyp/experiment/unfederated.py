"""The arms to compare a federation with: pooled (one model on everybody's images) and local (one at each hospital)."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedpolyp import checkpoints, metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.store import Store
from fedpolyp.divergence import diverged
from fedpolyp.runs import RoundRecord, RunFolder, ScoredImage, model_name, scored_images
from fedpolyp.training import Evaluation, Images, Trainer, expected, learning_rate, shared_trainer
from fedpolyp.watcher import Watcher


@dataclass(frozen=True)
class Learner:
    """One model of an arm: which images it learns from, and whose validation images choose its best round."""

    name: str  # of all its random draws: a hospital's draws are those that it makes in a federation
    train: tuple[str, ...]
    judges: tuple[str, ...]
    checkpoints: Path
    model: str  # its mark in images.csv; '' where the arm has but one


def learners(config: Config, run: RunFolder, partition: Partition) -> list[Learner]:
    """The models that the config's arm trains, in the order of the hospitals' names."""
    hospitals = sorted(partition.hospitals)
    if config.arm == "local":
        return [
            Learner(name, partition.hospitals[name].train, (name,), run.checkpoints / name, name) for name in hospitals
        ]
    everything = tuple(sorted(id for hospital in partition.hospitals.values() for id in hospital.train))
    return [Learner(config.arm, everything, tuple(hospitals), run.checkpoints, "")]


def run(config: Config, run: RunFolder, store: Store, partition: Partition, watcher: Watcher) -> None:
    """Train the arm's models for the config's rounds, each one pass (per local epoch) over the model's images.

    Same split, initial weights, batch size, learning rate by round and augmentation as the federation of the same
    config; Adam's state simply goes on. Resumes from the newest checkpoints; writes what a federated run writes.

    Raises:
        FedpolypError: the run folder cannot be resumed from, or a training diverged.
    """
    Arm(config, run, store, partition, watcher, shared_trainer(config), learners(config, run, partition)).carry_on()


@dataclass(frozen=True)
class Arm:
    """One run of an arm without a federation."""

    config: Config
    run: RunFolder
    store: Store
    partition: Partition
    watcher: Watcher
    trainer: Trainer
    learners: list[Learner]

    def carry_on(self) -> None:
        """Go from where the checkpoints left the run to its last round."""
        models = self._newest_checkpoints()
        reached = -1 if models is None else models[0].round
        self.watcher.started(self.config, self.partition, reached)
        if models is None:
            self.run.start_over()
            trainer = self.trainer
            start = Checkpoint(0, self.run.fingerprint(), trainer.initial, trainer.fresh_optimizer, 0, -1.0)
            models = self._finish_round([start] * len(self.learners), RoundRecord(0))
        else:
            self.run.rewind(reached)
        for number in range(models[0].round + 1, self.config.federation.rounds + 1):
            record = RoundRecord(number)
            self.watcher.asked(number, "train", [learner.name for learner in self.learners])
            models = [self._train(learner, model, record) for learner, model in zip(self.learners, models, strict=True)]
            models = self._finish_round(models, record)
        self._score_images(models)

    def _newest_checkpoints(self) -> list[Checkpoint] | None:
        """The models after the newest round that all of them have a usable checkpoint of; None before the first."""
        fingerprint, like = self.run.fingerprint(), expected(self.config)
        newest = [checkpoints.latest(own.checkpoints, fingerprint, self.watcher.note, like) for own in self.learners]
        if any(model is None for model in newest):
            return None  # killed in round 0
        common = min(model.round for model in newest if model is not None)
        return [checkpoints.load(own.checkpoints, common, fingerprint, like=like) for own in self.learners]

    def _train(self, learner: Learner, model: Checkpoint, record: RoundRecord) -> Checkpoint:
        trained = self.trainer.train(
            model.arrays,
            *self._images(learner.train),
            hospital=learner.name,
            round=record.round,
            learning_rate=learning_rate(self.config, record.round),
            optimizer=model.strategy,
        )
        if not np.isfinite(trained.loss):
            raise diverged(
                f"round {record.round}: the training of {learner.name} has diverged, its loss is {trained.loss}",
                self.config,
            )
        record.hospital(learner.name).update(images=trained.images, train_loss=trained.loss)
        record.steps += trained.steps
        self.watcher.replied(record.round, "train", learner.name, "")
        return replace(model, round=record.round, arrays=trained.arrays, strategy=trained.optimizer)

    def _finish_round(self, models: list[Checkpoint], record: RoundRecord) -> list[Checkpoint]:
        """Score the models, write the record and then the checkpoints."""
        heldout = [self._score(model, self.partition.heldout).means() for model in models]
        record.scores = {name: float(np.mean([scores[name] for scores in heldout])) for name in heldout[0]}
        if not all(map(math.isfinite, record.scores.values())):
            raise diverged(f"round {record.round}: the held-out loss is no finite number", self.config)
        judged = [self._judge(*both, record) for both in zip(self.learners, models, strict=True)]
        everyone = [dice for _, dices in judged for dice in dices]
        record.val_dice = float(np.concatenate(everyone).mean()) if everyone else None
        models = [model for model, _ in judged]
        self.run.append_round(record.to_plain())
        # A kill between two hospitals' checkpoints leaves them a round apart: the one before must still be there.
        keep = self.config.runtime.keep_checkpoints + (len(models) > 1)
        for learner, model in zip(self.learners, models, strict=True):
            checkpoints.save(learner.checkpoints, model, keep)
        self.watcher.finished_round(record.to_plain())
        return models

    def _judge(
        self, learner: Learner, model: Checkpoint, record: RoundRecord
    ) -> tuple[Checkpoint, list[metrics.Scores]]:
        """Score the model on its judges' images; the model with its best round, and the Dice of every image."""
        dices = []
        for name in learner.judges:
            own = self.partition.hospitals[name]
            if own.val:
                dices.append(metrics.dice(self._score(model, own.val).counts))
                record.hospital(name)["val_dice"] = float(dices[-1].mean())
            if own.test and model.round == self.config.federation.rounds:
                record.hospital(name)["test_dice"] = float(metrics.dice(self._score(model, own.test).counts).mean())
        return checkpoints.judged(model, float(np.concatenate(dices).mean()) if dices else None), dices

    def _score_images(self, models: list[Checkpoint]) -> None:
        """Score every held-out and test image by each model, last and best."""
        rows: list[ScoredImage] = []
        masks = {}
        sets = {"heldout": self.partition.heldout}
        sets |= {f"test:{name}": own.test for name, own in self.partition.hospitals.items()}
        for learner, last in zip(self.learners, models, strict=True):
            like = expected(self.config)
            best = checkpoints.load(learner.checkpoints, last.best_round, self.run.fingerprint(), like=like)
            for kind, model in (("last", last), ("best", best)):
                name = model_name(kind, learner.model)
                about = (self.config.arm_label, self.config.seed, name, model.round)
                for label, ids in sets.items():
                    images, truth = self._images(ids)
                    predicted = self.trainer.predict(model.arrays, images)
                    counts, distances = metrics.count_pixels(predicted, truth), metrics.hd95(predicted, truth)
                    rows += scored_images(*about, label, ids, counts, distances)
                    if (kind, label) == ("last", "heldout"):
                        masks[name] = predicted
        self.run.write_predictions(masks)
        self.run.write_images(rows)

    def _score(self, model: Checkpoint, ids: tuple[str, ...]) -> Evaluation:
        return self.trainer.evaluate(model.arrays, *self._images(ids))

    def _images(self, ids: tuple[str, ...]) -> tuple[Images, Images]:
        positions = self.store.positions(ids)
        return self.store.images[positions], self.store.masks[positions]
