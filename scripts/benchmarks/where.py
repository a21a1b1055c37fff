"""Where the time of one hospital's training goes: prints milliseconds an image, by TensorFlow's own profile.

Started as a program, from the checkout: python -m scripts.benchmarks.where [PRECISION]
"""

import collections
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from fedpolyp import training
from fedpolyp.config import load
from fedpolyp.data import phantom
from fedpolyp.training import Trainer

_IMAGES = 144
_KINDS = {
    "BackpropFilter": "convolutions, gradients of the kernels",
    "BackpropInput": "convolutions, gradients of the inputs",
    "Conv2D": "convolutions, forward",
    "BatchNorm": "batch normalization, both ways",
    "Cast": "casts between float32 and bfloat16, uint8",
}


def main(precision: str) -> None:
    """Train a hospital of 144 phantom images of 128 pixels and print what took how long."""
    config = load(overrides={"training.precision": precision, "training.optimizer": "adam"})
    images, masks, _ = phantom.draw(_IMAGES, config.data.image_size, 5, 0)
    trainer = Trainer(config)

    def train() -> float:
        began = time.perf_counter()
        trainer.train(trainer.initial, images, masks, hospital="hospital-1", round=1, learning_rate=1e-3)
        return (time.perf_counter() - began) * 1000 / _IMAGES

    train()  # traces
    whole = sorted(train() for _ in range(5))[2]
    began = time.perf_counter()
    for _ in trainer._batches(images, masks, "hospital-1", 1, None):
        pass
    batches = (time.perf_counter() - began) * 1000 / _IMAGES
    made, ahead = _waited(train, iter), _waited(train, training._one_ahead)
    print(f"{precision}, one thread, ms an image: a hospital's training {whole:.2f},")
    print(f"of which reading and augmenting {batches:.2f}: a step would wait {made:.2f} for its batch, and waits")
    print(f"{ahead:.2f}, because the next batch is made during a step; in the steps, while the profiler watches:")
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        train()
        tf.profiler.experimental.stop()
        spent = collections.Counter[str]()
        for name, seconds in _operations(Path(folder)):
            spent[next((kind for part, kind in _KINDS.items() if part in name), "the rest")] += seconds
    for kind, seconds in spent.most_common():
        print(f"  {seconds * 1000 / _IMAGES:6.2f}  {kind}")


def _waited(train: Callable[[], float], hand_out: Callable[[Any], Any]) -> float:
    """Milliseconds an image that steps wait for their batches, from `hand_out`; the median of five trainings."""
    spent = [0.0] * 5
    for turn in range(len(spent)):

        def timed(batches: Iterator[Any], turn: int = turn) -> Iterator[Any]:
            handed = hand_out(batches)
            while True:
                began = time.perf_counter()
                batch = next(handed, None)
                spent[turn] += (time.perf_counter() - began) * 1000 / _IMAGES
                if batch is None:
                    return
                yield batch

        with mock.patch.object(training, "_one_ahead", timed):
            train()
    return sorted(spent)[2]


def _operations(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every operation that TensorFlow computed: its kind, and the seconds it took."""
    (file,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            if line.name.startswith("tf_Compute"):
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name.split(":")[-1]
                    if name not in ("Process", "ExecutorDoneCallback"):
                        yield name, event.duration_ps / np.float64(1e12)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "float32")
