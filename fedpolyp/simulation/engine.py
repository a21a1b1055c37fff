"""A federation on one machine: Flower's simulation engine and Ray, wrapped so that nothing fails silently."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Flower reads these when it is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from fedpolyp import interrupts as stopping
from fedpolyp.simulation import cluster, hooks  # before Ray is imported

# isort: split
import ray
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from clients.app import app as client_app
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, Interrupted
from fedpolyp.imports import without
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.sampling import sample
from fedpolyp.runs import RunFolder
from fedpolyp.simulation import told
from fedpolyp.watcher import Watcher

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0  # an interrupted run may take this long to end what it is doing


def _flowers_engine() -> Callable[..., None]:
    """Flower's `run_simulation`, without loading TensorFlow, which it would load only for a setting that is not used
    here.

    Loading TensorFlow takes seconds; the federation loads it itself, while the actors load theirs.
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
    starting: cluster.Started | None = None,
) -> None:
    """Carry out the run in `run` to its last round, from its newest checkpoint.

    Each actor is a process that plays one hospital at a time. Ctrl-C, SIGTERM and SIGHUP stop the run in seconds, a
    second one at once. `starting` is a Ray instance whose start has begun and which its owner ends; otherwise the run
    starts one.

    If the run was stopped at once, or Ray has died, some threads wait for ever: the process should end.

    Raises:
        FedpolypError: the run cannot continue; its folder has every complete round.
        Interrupted: Ctrl-C or SIGTERM.
    """
    failure: list[BaseException] = []
    over = threading.Event()
    with (
        _interrupts() as interrupts,
        contextlib.nullcontext() if verbose else _output_to(run.engine_log),
        starting or cluster.begin(config, verbose) as ray_there,
    ):
        stop = interrupts.stop

        def carry() -> None:
            try:
                _carry(config, run, store, partition, watcher, ray_there, stop, over, failure)
            except BaseException as error:
                failure.append(error)  # after the federation's own failure, which says more
                stop.set()  # otherwise the federation would wait for an engine that has gone
                over.wait(
                    _GRACE_SECONDS
                )  # for what it asks of Ray last, which would wait a minute for one that is gone
                over.set()

        engine = threading.Thread(target=carry, daemon=True)
        engine.start()
        while engine.is_alive():
            engine.join(_POLL_SECONDS)
            if ray_there.there and (dead := hooks.dead_process()) and not over.is_set():
                failure.insert(0, FedpolypError(f"Ray's process '{dead}' has died, and the actors are lost with it"))
                break
            if interrupts.impatient():
                failure.insert(0, Interrupted("interrupted"))
                break
    if failure:
        first = failure[0]
        if isinstance(first, FedpolypError):
            raise first
        cause = _root(first)
        raise FedpolypError(f"the simulation failed: {type(cause).__name__}: {cause}") from first


def _carry(
    config: Config,
    run: RunFolder,
    store: Store,
    partition: Partition,
    watcher: Watcher,
    ray_there: cluster.Started,
    stop: threading.Event,
    over: threading.Event,
    failure: list[BaseException],
) -> None:
    """Let Flower carry out the run; a failure of the federation is added to `failure`, and `over` is set at the end."""
    seats = len(sample(sorted(partition.hospitals), config, 1))
    actors = cluster.actors(config)
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            from server.federation import run_on  # loads TensorFlow, while Flower starts the actors

            run_on(Experiment(config, run, store, partition, watcher, stop), grid, seats, actors)
        except BaseException as error:
            failure.append(error)
            # So that Flower's threads stop waiting for trainings that are no longer needed. (Shutting Ray down instead
            # leaves those threads waiting for ever.)
            for actor in handles:
                ray.kill(actor)
            raise
        finally:
            told.forget(run.path.resolve())
            over.set()  # Flower ends Ray next

    try:
        run_simulation = _flowers_engine()
        ray_there.wait()
        if stop.is_set():
            raise Interrupted("interrupted before the first round")
        resources = cluster.resources(config, actors)
        actors = min(actors, cluster.places(resources))
        told.tell(run.path.resolve(), store, partition)
    except BaseException:
        over.set()  # it never begins
        raise
    with hooks.pool_of(actors) as handles:
        run_simulation(server_app, client_app, num_supernodes=seats, backend_config=_backend(resources))


def _backend(resources: dict[str, float]) -> dict[str, Any]:
    # A dead actor is always replaced, and its work is tried three times in all: the message is repeated with the same
    # bits, because a hospital's training depends on nothing in the dead process.
    return {"client_resources": {**resources, "max_restarts": -1, "max_task_retries": 2}}


def _root(error: BaseException) -> BaseException:
    """The original exception: Flower wraps it twice."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


class _Interrupts:
    """What the user has asked for with Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._at_once = False
        self._since: float | None = None

    def heed(self, *_: object) -> None:
        """Handle one signal."""
        self._at_once = self.stop.is_set()
        self._since = self._since or time.monotonic()
        self.stop.set()

    def impatient(self) -> bool:
        """Whether the run should stop at once, whatever it is doing: asked twice, or some time ago."""
        return self._at_once or (self._since is not None and time.monotonic() - self._since > _GRACE_SECONDS)


@contextlib.contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    """Handle Ctrl-C and SIGTERM, which otherwise would interrupt whatever code is running."""
    heard = _Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.signal(number, heard.heed) for number in stopping.numbers()}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Redirect the output of Flower, Ray and TensorFlow, including their C++ sides, to the file `log`.

    What matters to the user reaches the watcher in our own words; a watcher that prints needs its own stream.
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
