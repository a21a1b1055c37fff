"""A run's job in NVIDIA FLARE's simulator, by its recipe of federated averaging for Keras models.

Started as a program in an environment that has nvflare: RUN_FOLDER ROUNDS THREADS; prints the seconds of each round and
of all with the simulator's start and end, the last held-out Dice and the version. Nothing scores the held-out set in
each round, as fedpolyp does.
"""

import itertools
import json
import os
import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from fedpolyp import metrics
from fedpolyp.data.source import open_source
from fedpolyp.model.unet import build
from fedpolyp.runs import RunFolder


def main(run: RunFolder, rounds: int, threads: int) -> None:
    """Run the federation; print what came of it."""
    import nvflare
    from nvflare.app_opt.tf.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe import SimEnv

    config, partition = run.config(), run.partition()
    names = sorted(partition.hospitals)
    model = build(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/initial.keras")
        recipe = FedAvgRecipe(
            name="job",
            initial_ckpt=f"{folder}/initial.keras",
            min_clients=len(names),
            num_rounds=rounds,
            train_script=str(Path(__file__).with_name("nvflare_client.py")),
            train_args=str(run.path.resolve()),
            key_metric="loss",
            key_metric_mode="min",
        )
        began = time.monotonic()
        recipe.execute(SimEnv(clients=names, num_threads=threads, workspace_root=folder))
        whole = time.monotonic() - began
        server = Path(folder) / "job" / "server"
        log = (server / "log.txt").read_text(encoding="utf-8")
        model.load_weights(next(server.rglob("tf_model.weights.h5")))
    store = open_source(config.data, config.data_seed)
    positions = store.positions(partition.heldout)
    predicted = model.predict(store.images[positions], verbose=0)[..., 0] > 0.5
    dice = float(metrics.dice(metrics.count_pixels(predicted, store.masks[positions])).mean())
    about = {"seconds": seconds(log, rounds), "whole": whole, "dice": dice, "version": nvflare.__version__}
    print(json.dumps(about))


def seconds(log: str, rounds: int) -> list[float]:
    """Of each round, from the server's log.

    Raises:
        RuntimeError: not every round was done, which NVIDIA FLARE itself lets pass.
    """
    pattern = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*\n[-=]+\n +(?:Round \d+ started|Finished FedAvg)\."
    times = [datetime.strptime(found, "%Y-%m-%d %H:%M:%S,%f") for found in re.findall(pattern, log, re.MULTILINE)]
    if len(times) != rounds + 1:
        raise RuntimeError(f"{len(times)} of {rounds + 1} times in the log of NVIDIA FLARE's server:\n{log[-3000:]}")
    return [(later - before).total_seconds() for before, later in itertools.pairwise(times)]


if __name__ == "__main__":
    main(RunFolder(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
