"""The pooled arm: one model on all hospitals' training images together, as if they could be shared."""

from dataclasses import replace

import numpy as np

from fedpolyp import checkpoints, metrics
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.store import Store
from fedpolyp.model.arrays import Arrays
from fedpolyp.runs import RoundRecord, RunFolder, scored_images
from fedpolyp.training import Evaluation, Trainer, learning_rate, shared_trainer
from fedpolyp.watcher import Watcher

ARM = "pooled"


def run(config: Config, run: RunFolder, store: Store, partition: Partition, watcher: Watcher) -> None:
    """Train for the config's rounds, each one pass (per local epoch) over every hospital's training images.

    Same split, initial weights, batch size, learning rate by round and augmentation as the federation of the same
    config; Adam's state simply goes on. Resumes from the newest checkpoint; writes what a federated run writes.
    """
    trainer = shared_trainer(config)
    ids = tuple(sorted(id for hospital in partition.hospitals.values() for id in hospital.train))
    positions = store.positions(ids)
    images, masks = store.images[positions], store.masks[positions]
    checkpoint = checkpoints.latest(run.checkpoints, config.fingerprint(), watcher.note)
    watcher.started(config, partition, -1 if checkpoint is None else checkpoint.round)
    if checkpoint is None:
        run.rounds_file.unlink(missing_ok=True)
        start = Checkpoint(0, config.fingerprint(), trainer.initial, trainer.fresh_optimizer, 0, -1.0)
        checkpoint = _score_and_save(trainer, config, run, store, partition, start, RoundRecord(0), watcher)
    else:
        run.rewind(checkpoint.round)
    for number in range(checkpoint.round + 1, config.federation.rounds + 1):
        record = RoundRecord(number)
        trained = trainer.train(
            checkpoint.arrays,
            images,
            masks,
            hospital=ARM,
            round=number,
            learning_rate=learning_rate(config, number),
            optimizer=checkpoint.strategy,
        )
        record.hospital(ARM).update(images=trained.images, train_loss=trained.loss)
        after = replace(checkpoint, round=number, arrays=trained.arrays, strategy=trained.optimizer)
        checkpoint = _score_and_save(trainer, config, run, store, partition, after, record, watcher)
    best = checkpoints.load(run.checkpoints, checkpoint.best_round, config.fingerprint())
    rows = []
    for name, model in (("last", checkpoint), ("best", best)):
        sets = {"heldout": partition.heldout} | {f"test:{h}": own.test for h, own in partition.hospitals.items()}
        for label, members in sets.items():
            positions = store.positions(members)
            truth = store.masks[positions]
            predicted = trainer.predict(model.arrays, store.images[positions])
            counts, distances = metrics.count_pixels(predicted, truth), metrics.hd95(predicted, truth)
            rows += scored_images(ARM, config.seed, name, model.round, label, members, counts, distances)
    run.write_images(rows)


def _score_and_save(
    trainer: Trainer,
    config: Config,
    run: RunFolder,
    store: Store,
    partition: Partition,
    model: Checkpoint,
    record: RoundRecord,
    watcher: Watcher,
) -> Checkpoint:
    record.scores = _score(trainer, model.arrays, store, partition.heldout).means()
    last = model.round == config.federation.rounds
    everyone = []
    for name, hospital in sorted(partition.hospitals.items()):
        if hospital.val:
            dices = metrics.dice(_score(trainer, model.arrays, store, hospital.val).counts)
            record.hospital(name)["val_dice"] = float(dices.mean())
            everyone.append(dices)
        if last and hospital.test:
            tested = _score(trainer, model.arrays, store, hospital.test).counts
            record.hospital(name)["test_dice"] = float(metrics.dice(tested).mean())
    if everyone:
        record.val_dice = float(np.concatenate(everyone).mean())
        if record.val_dice > model.best_val_dice:
            model = replace(model, best_round=model.round, best_val_dice=record.val_dice)
    run.append_round(record.to_plain())
    checkpoints.save(run.checkpoints, model, config.runtime.keep_checkpoints)
    watcher.finished_round(record.to_plain())
    return model


def _score(trainer: Trainer, arrays: Arrays, store: Store, ids: tuple[str, ...]) -> Evaluation:
    positions = store.positions(ids)
    return trainer.evaluate(arrays, store.images[positions], store.masks[positions])
