"""A hospital in NVIDIA FLARE, written the way of its own Keras example. Started by the simulator: RUN_FOLDER."""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import nvflare.client as flare

from fedpolyp.runs import RunFolder
from fedpolyp.training import learning_rate
from scripts.benchmarks.keras_pattern import augmented, compiled, loaded


def main(run: RunFolder) -> None:
    """Answer every message: the received model's loss on the validation images, then one epoch with `fit`."""
    flare.init()
    config, name = run.config(), flare.get_site_name()
    model = compiled(config, learning_rate(config, 1))
    validation = loaded(run, name, "val")
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        number = received.current_round + 1
        for layer, weights in received.params.items():
            model.get_layer(layer).set_weights(weights)
        loss = model.evaluate(*validation, verbose=0)
        model.optimizer.learning_rate.assign(learning_rate(config, number))
        x, y = augmented(run, name, number)
        model.fit(x, y, epochs=1, batch_size=config.training.batch_size, verbose=0)
        answer = flare.FLModel(
            params={layer.name: layer.get_weights() for layer in model.layers},
            metrics={"loss": float(loss)},
            meta={"NUM_STEPS_CURRENT_ROUND": len(x)},  # what NVIDIA FLARE weighs the answer by
        )
        flare.send(answer)


if __name__ == "__main__":
    main(RunFolder(Path(sys.argv[1])))
