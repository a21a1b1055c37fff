"""fedpolyp's training steps, by the trainer's compiled step. Started by `steps.py`, with its arguments."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp.config import Config, load, value_of
from fedpolyp.data import phantom
from fedpolyp.model.unet import build
from fedpolyp.model.weights import noted
from fedpolyp.privacy.gradients import as_units
from fedpolyp.training import Trainer

LEARNING_RATE = 1e-3  # Keras's and PyTorch's own default


def write_job(path: Path, config: Config, batches: int) -> None:
    """Write what every program measures itself on: batches (B, N, S, S[, 3]) uint8 and the U-Net's initial weights."""
    size, batch = config.data.image_size, config.training.batch_size
    images, masks, _ = phantom.draw(batches * batch, size, looks=5, seed=0)
    weights = build(config).trainable_variables
    np.savez(
        path,
        images=images.reshape(batches, batch, size, size, 3),
        masks=masks.reshape(batches, batch, size, size),
        **{f"weight_{number}": weight.numpy() for number, weight in enumerate(weights)},
    )


def step_of(trainer: Trainer) -> Callable[[Any, Any], float]:
    """A step on a batch, which returns the loss; with privacy a sum of clipped gradients, which returns its length.

    Not `train`: it augments, and it gives and takes the weights, for which the others have no counterpart.
    """
    network, clip = trainer.network, trainer.config.privacy.clip
    if not trainer.config.privacy.on:
        return lambda images, masks: float(network.train_step(images, masks))

    def clipped(images: Any, masks: Any) -> float:
        total = network.unit_gradients.clipped_sum(as_units(images, masks, [[row] for row in range(len(images))]), clip)
        return float(np.sqrt(sum(np.square(array).sum() for array in total.values())))

    return clipped


def main(job: Path, precision: str, threads: int, settings: dict[str, Any]) -> None:
    """Answer each line of standard input, a number of steps, with the seconds that they took.

    Where `settings` make another model than the job's, it begins with its own weights.
    """
    import tensorflow

    with np.load(job) as arrays:
        batches = list(zip(arrays["images"], arrays["masks"], strict=True))
        filters = arrays["weight_0"].shape[-1]
        weights = [arrays[f"weight_{number}"] for number in range(sum(name[0] == "w" for name in arrays))]
    chosen: dict[str, Any] = {"data.image_size": batches[0][1].shape[1], "model.base_filters": filters}
    chosen |= {"training.threads": threads, "training.precision": precision, "training.optimizer": "adam"}
    trainer = Trainer(noted(load(overrides=chosen | {"training.learning_rate": LEARNING_RATE} | settings)))
    variables = trainer.network.model.trainable_variables
    if [variable.shape for variable in variables] == [weight.shape for weight in weights]:
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)
    step = step_of(trainer)
    losses = [step(*batch) for batch in batches]
    parameters = sum(int(np.prod(variable.shape)) for variable in variables)
    print(json.dumps({"parameters": parameters, "losses": losses, "version": tensorflow.__version__}), flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        for number in range(int(line)):
            step(*batches[number % len(batches)])
        print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[4:])
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), {name: value_of(text) for name, text in given.items()})
