"""Images a second with Keras, as `predict` uses it, and with a model's exports.

Started as a program, from the checkout: python -m scripts.benchmarks.exported [THREADS]; 0: as many as each program
takes by itself. Batches of 16, as `predict` has them, of phantom frames of 128 pixels; the U-Net of the defaults.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import tensorflow as tf

from fedpolyp.config import load
from fedpolyp.data import phantom
from fedpolyp.inference.export import onnx_file
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels, Predictor
from fedpolyp.model import registry

_BATCH, _TURNS = 16, 15


def main(threads: int) -> None:
    """Print, for each program, images a second, and how much processor time an image takes."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    config = load(overrides={"training.precision": "float32"})
    predictor = Predictor(registry.build(config), None, Path("model.keras"))
    images = phantom.draw(_BATCH, config.data.image_size, 5, 0)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(Subject(predictor, "last"), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def by_onnx(squares: Pixels) -> Field:
        return np.asarray(session.run(None, {"image": squares.astype(np.float32)})[0])

    programs: dict[str, Callable[[Pixels], Field]] = {"Keras": predictor.probabilities, "ONNX Runtime": by_onnx}
    wall: dict[str, list[float]] = {name: [] for name in programs}
    processor: dict[str, list[float]] = {name: [] for name in programs}
    for see in programs.values():
        see(images)  # traces
    for _ in range(_TURNS):  # in turns, so that what else the machine does is the same for all
        for name, see in programs.items():
            began, used = time.perf_counter(), time.process_time()
            see(images)
            wall[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - used)
    print(f"threads: {threads or 'default'}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    for name in programs:
        images_a_second, used = _BATCH / median(wall[name]), median(processor[name]) * 1000 / _BATCH
        print(f"{name}: {images_a_second:.1f} images a second, {used:.1f} ms of processor time an image")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
