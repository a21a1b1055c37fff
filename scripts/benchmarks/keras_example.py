"""The same job written the way of Flower's own Keras example: build, compile and `fit` anew for every message.

Started as a program: RUN_FOLDER ROUNDS CPUS_PER_CLIENT; prints the seconds of each round and the last held-out Dice.
"""

import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedpolyp import metrics
from fedpolyp.data.source import open_source
from fedpolyp.runs import RunFolder
from fedpolyp.training import learning_rate
from scripts.benchmarks.keras_pattern import augmented, compiled, loaded

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One epoch with `fit`, on images augmented as ours are."""
    order = message.content.config_records["config"]
    run, number = RunFolder(Path(str(order["run"]))), int(order["server-round"])  # type: ignore[arg-type]
    config, name = run.config(), f"hospital-{int(context.node_config['partition-id']) + 1}"
    x, y = augmented(run, name, number)
    model = compiled(config, learning_rate(config, number))
    model.set_weights(message.content.array_records["arrays"].to_numpy_ndarrays())
    history = model.fit(x, y, epochs=1, batch_size=config.training.batch_size, verbose=0)
    scores = MetricRecord({"train_loss": float(history.history["loss"][-1]), "num-examples": len(x)})
    content = RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": scores})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The loss on the hospital's validation images."""
    run = RunFolder(Path(str(message.content.config_records["config"]["run"])))
    name = f"hospital-{int(context.node_config['partition-id']) + 1}"
    model = compiled(run.config(), 0.001)
    model.set_weights(message.content.array_records["arrays"].to_numpy_ndarrays())
    x, y = loaded(run, name, "val")
    loss = model.evaluate(x, y, verbose=0)
    content = RecordDict({"metrics": MetricRecord({"loss": float(loss), "num-examples": len(x)})})
    return Message(content=content, reply_to=message)


def main(run: RunFolder, rounds: int, cpus: int) -> None:
    """Run the federation with Flower's own loop; print what came of it."""
    from flwr.simulation import run_simulation

    config, partition = run.config(), run.partition()
    hospitals = len(partition.hospitals)
    store = open_source(config.data, config.data_seed)
    positions = store.positions(partition.heldout)
    ends, dices = [], []
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < hospitals:
            time.sleep(0.1)
        model = compiled(config, 0.001)

        def score(number: int, arrays: ArrayRecord) -> MetricRecord:
            model.set_weights(arrays.to_numpy_ndarrays())
            predicted = model.predict(store.images[positions], verbose=0)[..., 0] > 0
            dices.append(float(metrics.dice(metrics.count_pixels(predicted, store.masks[positions])).mean()))
            ends.append(time.monotonic())
            return MetricRecord({"dice": dices[-1]})

        strategy = FedAvg(min_train_nodes=hospitals, min_evaluate_nodes=hospitals, min_available_nodes=hospitals)
        told = ConfigRecord({"run": str(run.path.resolve())})
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.get_weights()),
            num_rounds=rounds,
            train_config=told,
            evaluate_config=told,
            evaluate_fn=score,
        )
        if len(result.train_metrics_clientapp) < rounds or len(result.evaluate_metrics_clientapp) < rounds:
            raise RuntimeError("a round had no replies")  # which Flower itself lets pass

    run_simulation(
        server_app,
        app,
        num_supernodes=hospitals,
        backend_config={"client_resources": {"num_cpus": cpus, "num_gpus": 0.0}, "init_args": {"log_to_driver": False}},
    )
    print(json.dumps({"seconds": [later - before for before, later in itertools.pairwise(ends)], "dice": dices[-1]}))


if __name__ == "__main__":
    # Ray's actors find the ClientApp by its module's name, which must not be __main__.
    from scripts.benchmarks import keras_example

    keras_example.main(RunFolder(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
