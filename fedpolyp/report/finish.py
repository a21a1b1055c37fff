"""What a finished run leaves to look at and to use: its pictures and its models."""

from fedpolyp import checkpoints, metrics
from fedpolyp.data.store import Store
from fedpolyp.experiment.unfederated import learners
from fedpolyp.report.curves import draw_curves
from fedpolyp.report.predictions import draw_predictions
from fedpolyp.runs import RunFolder
from fedpolyp.training import shared_trainer


def finish(run: RunFolder, store: Store) -> None:
    """Draw predictions.png (the last round's model, held-out images), save the best models as Keras, draw curves.png.

    Where each hospital has a model of its own, the picture is of the one in the middle by mean Dice.
    """
    config, partition, rounds = run.config(), run.partition(), run.rounds()
    positions = store.positions(partition.heldout)
    images, truths = store.images[positions], store.masks[positions]
    predictions = run.predictions()
    dices = {name: metrics.dice(metrics.count_pixels(masks, truths)) for name, masks in predictions.items()}
    shown = sorted(dices, key=lambda name: float(dices[name].mean()))[len(dices) // 2]
    draw_predictions(run.path / "predictions.png", images, truths, predictions[shown], partition.heldout, dices[shown])
    for learner in learners(config, run, partition):
        last = checkpoints.load(learner.checkpoints, rounds[-1]["round"], config.fingerprint())
        best = checkpoints.load(learner.checkpoints, last.best_round, config.fingerprint())
        shared_trainer(config).save(best.arrays, run.model_file(learner.model))
    draw_curves(run.curves, rounds)
