"""What is chosen for a training, against what could have been: kernels, optimizer, encoder, privacy; what travels."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedpolyp.config import Config, load
from scripts.benchmarks.keras_steps import write_job
from scripts.benchmarks.steps import Failed, Measured, Side, side_by_side

_BATCHES, _STEPS, _TURNS = 4, 8, 5
_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "before": {"training.optimizer": "adam", "training.optimizer_state": "average", "training.wire": "float32"},
    "now": {"training.optimizer": "muon", "training.optimizer_state": "reset", "training.wire": "bfloat16"},
}


def rows(row: Callable[..., dict[str, Any]], size: int, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """A row of the benchmark's table for each, made by `row`; images of `size` pixels a side."""
    from fedpolyp.network import prepare_tensorflow

    prepare_tensorflow(1)  # before this process computes anything
    config = load(overrides={"data.image_size": size, "training.optimizer": "adam"})
    with tempfile.TemporaryDirectory() as folder:
        write_job(job := Path(folder) / "job.npz", config, _BATCHES)

        def side(name: str, environment: dict[str, str], *settings: str) -> Side:
            words = (sys.executable, "-m", "scripts.benchmarks.keras_steps", str(job), "float32", "1", *settings)
            return Side(name, words, 1, {**os.environ, **environment})

        say("steps with kernels for AVX2: oneDNN's, and TensorFlow's own")
        onednn, own = _speeds(
            config,
            side("oneDNN", _AVX2 | {"TF_ENABLE_ONEDNN_OPTS": "1"}),
            side("TensorFlow", _AVX2 | {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        )
        what = "steps in float32 with kernels for AVX2 alone, images a second: oneDNN"
        yield row(what, onednn, own, 1.5, "without oneDNN", at_least=True)
        say("steps with Adam and with Muon")
        adam, muon = _speeds(config, side("Adam", {}), side("Muon", {}, "training.optimizer=muon"))
        yield row("a step with Muon, ms an image", 1000 / muon, 1000 / adam, 1.15, "with Adam")
        say("steps of the plain and of a pretrained encoder")
        plain, pretrained = _speeds(
            config, side("plain", {}), side("pretrained", {}, "model.encoder=efficientnet-lite0")
        )
        yield row("a step of the pretrained U-Net, ms an image", 1000 / pretrained, 1000 / plain, 1.0, "the plain one")
        say("steps with and without privacy")
        group = "model.normalization=group"
        private = ("privacy.mode=local", "algorithm.name=fedadam")
        ordinary, clipped = _speeds(config, side("ordinary", {}, group), side("private", {}, group, *private))
        what = "a step in which each image's gradient is clipped, ms an image"
        yield row(what, 1000 / clipped, 1000 / ordinary, 1.3, "an ordinary step, both with group normalization")
    before, now = (travels(config, own) / 1e6 for own in _OPTIMIZERS.values())
    yield row("sent by a hospital in a round, MB: Muon, reset, bfloat16", now, before, 0.25, "Adam, averaged, float32")


def travels(config: Config, settings: dict[str, Any]) -> int:
    """The bytes of the arrays that a hospital sends in a round of FedAvg."""
    from fedpolyp.algorithms.finding import make
    from fedpolyp.exchange.packing import carried_bytes
    from fedpolyp.training import Trainer

    chosen = load(overrides={"data.image_size": config.data.image_size, "training.optimizer": "adam", **settings})
    update = make(chosen).update(Trainer(chosen).start)
    return sum(carried_bytes(arrays, chosen.training.wire == "bfloat16") for arrays in update.values())


def _speeds(config: Config, *sides: Side) -> tuple[float, ...]:
    """Images a second of each side, in turns."""
    found = side_by_side(sides, config.training.batch_size, _STEPS, _TURNS)
    for result in found:
        if isinstance(result, Failed):
            raise RuntimeError(str(result))
    return tuple(result.speed for result in found if isinstance(result, Measured))
