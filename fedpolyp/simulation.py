"""A federation on one machine: Flower's simulation engine and Ray, wrapped so that nothing fails silently."""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

# Read by Flower when it is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from fedpolyp import cluster  # before Ray is imported

# isort: split
import ray
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from clients import told
from clients.app import app as client_app
from fedpolyp.config import Config
from fedpolyp.data.hospitals import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.imports import without
from fedpolyp.planning import actors_on_a_gpu, gpu_share
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher
from server.exchange import Interrupted
from server.sampling import sample


def _flowers_engine() -> Callable[..., None]:
    """Flower's `run_simulation`, without the TensorFlow that it would load only to offer a setting not used here.

    TensorFlow takes seconds; the federation loads it itself, while the actors, which this starts, load theirs.
    """
    with without("tensorflow"):
        from flwr.simulation import run_simulation
    return run_simulation


def run(
    config: Config,
    run: RunFolder,
    store: Store,
    partition: Partition,
    watcher: Watcher,
    verbose: bool = False,
    starting: "Future[None] | None" = None,
) -> None:
    """Carry the run in `run` to its last round, from wherever its checkpoints left it.

    Each actor is a process that plays one hospital at a time. Ctrl-C stops the run within seconds.
    `starting` is the Ray that somebody has begun to start for it.

    Raises:
        FedpolypError: the run cannot go on; its folder holds every complete round.
        Interrupted: Ctrl-C.
    """
    stop = threading.Event()
    seats = len(sample(sorted(partition.hospitals), config, 1))
    actors = cluster.actors(config)
    failure: list[BaseException] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            from server.rounds import Federation  # loads TensorFlow, while Flower starts the actors

            Federation(config, run, store, partition, watcher, stop).run_on(grid, seats, actors)
        except BaseException as error:
            failure.append(error)
            _end_trainings()
            raise
        finally:
            told.forget(run.path.resolve())

    with _interrupts_set(stop), contextlib.nullcontext() if verbose else _output_to(run.engine_log):
        try:
            starting = starting or cluster.begin(config, verbose)
            run_simulation = _flowers_engine()
            starting.result()
            resources = _resources(config, actors)
            actors = min(actors, _places(resources))
            told.tell(run.path.resolve(), store, partition)
            with _pool_of(actors):
                run_simulation(server_app, client_app, num_supernodes=seats, backend_config=_backend(resources))
        except Exception as error:
            failure.append(error)  # after the federation's own failure, which tells more
            stop.set()  # or the federation would go on waiting for an engine that is gone
        finally:
            ray.shutdown()  # which an engine that broke down has not done
    if failure:
        first = failure[0]
        if isinstance(first, FedpolypError):
            raise first
        cause = _root(first)
        raise FedpolypError(f"the simulation failed: {type(cause).__name__}: {cause}") from first


def _resources(config: Config, actors: int) -> dict[str, float]:
    """What each of `actors` takes of the Ray that is there: a CPU for each of its threads, and a share of a GPU."""
    share = config.runtime.gpus_per_client
    if share is None:
        at_hand = sum(int(machine.get("GPU", 0)) for machine in _machines())
        gpus = at_hand if config.runtime.ray_address is not None or not at_hand else min(_gpus(), at_hand)
        share = gpu_share(actors, gpus)
    return {"num_cpus": config.training.threads, "num_gpus": share}


def _places(resources: dict[str, float]) -> int:
    """How many actors that take `resources` Ray has a place for.

    Raises:
        FedpolypError: for none.
    """
    threads, share = int(resources["num_cpus"]), resources["num_gpus"]
    places = 0
    for machine in _machines():
        most = int(machine.get("CPU", 0)) // threads
        places += min(most, int(machine.get("GPU", 0)) * actors_on_a_gpu(share)) if share else most
    if not places:
        wanted = f"{threads} CPU{'s' if threads > 1 else ''}" + (f" and {share:g} of a GPU" if share else "")
        raise FedpolypError(f"no machine of Ray's has {wanted} for a hospital (--threads, --gpus-per-client)")
    return places


def _machines() -> list[dict[str, float]]:
    """What each machine of Ray's has, by name."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _pool_of(actors: int) -> Iterator[None]:
    """Have Flower start so many actors.

    Flower itself would start one wherever its resources are left in the whole cluster, and more than find a place where
    GPUs are shared: the rest waits for a place without end, and so does a message that is given to it.
    """
    from flwr.simulation.ray_transport import ray_actor

    before = ray_actor.pool_size_from_resources
    ray_actor.pool_size_from_resources = lambda client_resources: actors
    try:
        yield
    finally:
        ray_actor.pool_size_from_resources = before


def _backend(resources: dict[str, float]) -> dict[str, Any]:
    # A dead actor is replaced without end, and what it was doing is tried three times in all: the message is
    # repeated with the same bits, because a hospital's training depends on nothing that the dead process held.
    return {"client_resources": {**resources, "max_restarts": -1, "max_task_retries": 2}}


def _root(error: BaseException) -> BaseException:
    """What an exception goes back to: Flower wraps it twice."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


def _end_trainings() -> None:
    """Kill the actors, so that Flower's threads stop waiting for trainings that nobody wants any more.

    Flower does not hand its actors out, and Ray lists only actors with names: they are found among the live objects.
    (Shutting Ray down instead leaves those threads waiting for ever.)
    """
    for thing in gc.get_objects():
        if issubclass(type(thing), ray.actor.ActorHandle):
            ray.kill(thing)


def _gpus() -> int:
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `stop` instead of breaking into Flower's threads; a second one breaks in."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what Flower, Ray and TensorFlow print, their C++ sides too, to the file `log`.

    What concerns the user reaches the watcher, in words of our own; a watcher that prints needs a stream of its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = {number: os.dup(number) for number in (1, 2)}
    with log.open("ab") as file:
        for number in before:
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, stream in before.items():
            os.dup2(stream, number)
            os.close(stream)


__all__ = ["Interrupted", "run"]
