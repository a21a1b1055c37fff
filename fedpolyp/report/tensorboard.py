"""TensorBoard event files of a run, written as it goes: `tensorboard --logdir` a run folder or the folder of many."""

from functools import cached_property
from typing import Any

import tensorflow as tf

from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher

_SCORES = {"dice": "held-out/Dice", "iou": "held-out/IoU", "loss": "held-out/loss", "val_dice": "validation/Dice"}


class EventWriter(Watcher):
    """Writes each round's scores, those of every hospital too, beside the run's other files."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    @cached_property
    def _writer(self) -> Any:
        # Not before the first round: TensorFlow's threads are settled when it first computes, which this makes it do.
        return tf.summary.create_file_writer(str(self._run.events))

    def finished_round(self, record: dict[str, Any]) -> None:
        """Write the round's scalars; they are on disk when this returns."""
        with self._writer.as_default():
            for name, tag in _SCORES.items():
                if record[name] is not None:
                    tf.summary.scalar(tag, record[name], step=record["round"])
            for hospital, own in record["hospitals"].items():
                for name in ("train_loss", "val_dice"):
                    if name in own:
                        tf.summary.scalar(f"{hospital}/{name}", own[name], step=record["round"])
        self._writer.flush()
