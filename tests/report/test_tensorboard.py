import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from fedpolyp.errors import FedpolypError
from fedpolyp.report.tensorboard import EventWriter
from fedpolyp.runs import RunFolder


def record(round: int, dice: float, val_dice: float | None) -> dict[str, Any]:
    own = {"images": 3, "train_loss": 1.5} | ({} if val_dice is None else {"val_dice": val_dice})
    scores = {"round": round, "dice": dice, "iou": 0.25, "loss": 2.0, "val_dice": val_dice}
    return scores | {"hospitals": {"hospital-1": own}}


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(run.events))
    read.Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
    }


def test_tensorboard_reads_every_rounds_scores_and_those_of_the_hospitals(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    writer = EventWriter(run)
    writer.finished_round(record(0, 0.5, 0.75))
    writer.finished_round(record(1, 0.625, 0.5))
    assert scalars(run) == {
        "held-out/Dice": [(0, 0.5), (1, 0.625)],
        "held-out/IoU": [(0, 0.25), (1, 0.25)],
        "held-out/loss": [(0, 2.0), (1, 2.0)],
        "validation/Dice": [(0, 0.75), (1, 0.5)],
        "hospital-1/train_loss": [(0, 1.5), (1, 1.5)],
        "hospital-1/val_dice": [(0, 0.75), (1, 0.5)],
    }


def test_what_was_not_scored_is_not_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    EventWriter(run).finished_round(record(0, 0.5, None))
    assert scalars(run).keys() == {"held-out/Dice", "held-out/IoU", "held-out/loss", "hospital-1/train_loss"}


def test_a_writer_leaves_the_number_of_threads_open_until_a_trainer_settles_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from fedpolyp.errors import FedpolypError
from fedpolyp.report.tensorboard import EventWriter
from fedpolyp.runs import RunFolder
from fedpolyp.network import prepare_tensorflow
import tensorflow as tf
writer = EventWriter(RunFolder(Path(sys.argv[1])))
prepare_tensorflow(1)
tf.constant(1) + 1
prepare_tensorflow(1)
try:
    prepare_tensorflow(2)
except RuntimeError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_a_full_disk_is_told_in_one_sentence_though_tensorflow_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, folder: str) -> None:
            raise tf.errors.ResourceExhaustedError(None, None, f"{folder}/events.1;\nNo space left on device")

    monkeypatch.setattr("fedpolyp.report.tensorboard.Writer", Full)
    with pytest.raises(FedpolypError, match=r"^cannot write to .*events: .*events\.1; No space left on device$"):
        EventWriter(RunFolder(tmp_path)).finished_round(record(0, 0.5, None))
