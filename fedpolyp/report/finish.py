"""What a finished run leaves to look at and to use: its pictures and its model."""

from fedpolyp import checkpoints, metrics
from fedpolyp.data.store import Store
from fedpolyp.report.curves import draw_curves
from fedpolyp.report.predictions import draw_predictions
from fedpolyp.runs import RunFolder
from fedpolyp.training import shared_trainer


def finish(run: RunFolder, store: Store) -> None:
    """Draw curves.png and predictions.png (the last round's model, held-out images); save the best model as Keras."""
    config, partition, rounds = run.config(), run.partition(), run.rounds()
    last = checkpoints.load(run.checkpoints, rounds[-1]["round"], config.fingerprint())
    best = checkpoints.load(run.checkpoints, last.best_round, config.fingerprint())
    trainer = shared_trainer(config)
    positions = store.positions(partition.heldout)
    images, truths = store.images[positions], store.masks[positions]
    predictions = trainer.predict(last.arrays, images)
    dices = metrics.dice(metrics.count_pixels(predictions, truths))
    draw_curves(run.path / "curves.png", rounds)
    draw_predictions(run.path / "predictions.png", images, truths, predictions, partition.heldout, dices)
    trainer.save(best.arrays, run.model_file)
