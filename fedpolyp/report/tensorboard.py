"""TensorBoard event files of a run, written during the run: `tensorboard --logdir` a run folder or a folder of many."""

from functools import cached_property
from typing import Any

from tensorboard.summary import Writer

from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher

_SCORES = {"dice": "held-out/Dice", "iou": "held-out/IoU", "loss": "held-out/loss", "val_dice": "validation/Dice"}


class EventWriter(Watcher):
    """Writes each round's scores, and those of every hospital, beside the run's other files."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    @cached_property
    def _writer(self) -> Writer:
        return Writer(str(self._run.events))  # loads TensorFlow, which is not needed before the first round

    def finished_round(self, record: dict[str, Any]) -> None:
        """Write the round's scalars; they are on disk when this returns.

        Raises:
            FedpolypError: they cannot be written.
        """
        try:
            self._write(record)
        except Exception as error:  # TensorFlow writes, and its errors are not OSErrors
            why = " ".join(str(getattr(error, "message", error)).split())
            raise FedpolypError(f"cannot write to {self._run.events}: {why}") from None

    def _write(self, record: dict[str, Any]) -> None:
        scores = {tag: record[name] for name, tag in _SCORES.items() if record[name] is not None}
        for hospital, own in record["hospitals"].items():
            scores |= {
                f"{hospital}/{name}": own[name] for name in ("train_loss", "val_dice") if own.get(name) is not None
            }
        for tag, score in scores.items():
            self._writer.add_scalar(tag, score, record["round"])
        self._writer.flush()
