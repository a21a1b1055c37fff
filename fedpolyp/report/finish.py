"""The pictures and models of a finished run."""

from typing import Literal

import numpy as np

from fedpolyp import checkpoints, metrics
from fedpolyp.data.store import Store
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.inference.about import about
from fedpolyp.inference.calibration import fitted
from fedpolyp.model.weights import MEMBER
from fedpolyp.report.calibration import CalibrationFile
from fedpolyp.report.curves import draw_curves
from fedpolyp.report.predictions import draw_predictions
from fedpolyp.runs import RunFolder
from fedpolyp.training import Images, shared_trainer


def finish(run: RunFolder, store: Store) -> None:
    """Draw predictions.png (the last round's model, held-out images), save the models as Keras, draw curves.png.

    If each hospital has its own model, the picture is of the one with the median mean Dice.
    """
    partition, rounds = run.partition(), run.rounds()
    images, truths = partition.heldout_of(store)
    predictions = run.predictions()
    dices = {name: metrics.dice(metrics.count_pixels(masks, truths)) for name, masks in predictions.items()}
    shown = sorted(dices, key=lambda name: float(dices[name].mean()))[len(dices) // 2]
    draw_predictions(run.path / "predictions.png", images, truths, predictions[shown], partition.heldout, dices[shown])
    save_models(run, store)
    draw_curves(run.curves, rounds)


def save_models(run: RunFolder, store: Store | None = None) -> None:
    """Save as Keras the model after the last round and the one best on validation; for each hospital in the local arm.

    Without validation images both are the last. If there are held-out images, calibration.csv is about the last.
    """
    config, done = run.config(), run.rounds()[-1]["round"]
    last = checkpoints.load(run.checkpoints, done, run.fingerprint())
    calibration = None
    if store is not None and run.partition().heldout:
        calibration = CalibrationFile(*run.partition().heldout_of(store))
    for mark, one in last.best.items():
        best = checkpoints.load(run.checkpoints, one.round, run.fingerprint())
        kinds: tuple[tuple[Literal["last", "best"], checkpoints.Checkpoint], ...] = (("last", last), ("best", best))
        validation = _validation(run, store, mark)
        for kind, model in kinds:
            weights = model.models[mark]
            found = None
            if validation is not None:
                found = fitted(shared_trainer(config).probabilities(weights, validation[0]), validation[1])
            told = {MEMBER: about(run, kind, model.round, mark, store, found).model_dump_json(indent=1)}
            shared_trainer(config).save(weights, run.model_file(kind, mark), told)
            if kind == "last" and calibration is not None:
                given = shared_trainer(config).probabilities(weights, calibration.images)
                calibration.add(mark, given, None if found is None else found.temperature)
    if calibration is not None:
        calibration.write(run)


def _validation(run: RunFolder, store: Store | None, hospital: str) -> tuple[Images, Images] | None:
    """The validation images and masks of all hospitals, or of one, as they have them; None if there are none.

    With privacy on there are none, because a choice made on them would reveal something about them.
    """
    config, partition = run.config(), run.partition()
    if store is None or config.privacy.on:
        return None
    names = [hospital] if hospital else sorted(partition.hospitals)
    sets = [
        Hospital(name, config, store, partition.hospitals[name], run.state / name).images("val")
        for name in names
        if partition.hospitals[name].val
    ]
    if not sets:
        return None
    return np.concatenate([images for images, _ in sets]), np.concatenate([masks for _, masks in sets])
