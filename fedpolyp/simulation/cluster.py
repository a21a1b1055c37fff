"""The Ray instance of a simulation: started in the background, because it takes as long as importing TensorFlow."""

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

# Ray reads these when it is imported.
os.environ.setdefault("RAY_DISABLE_METRICS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # in this process, where Ray would warn of it
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # such workers would not have our runtime_env
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call after the shutdown must not start a second Ray

import ray

from fedpolyp import scratch
from fedpolyp.config import Config
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.imports import keep_out_the_working_folder
from fedpolyp.planning import actors_on_a_gpu, gpu_share, planned, seats, this_machine
from fedpolyp.simulation import hooks

# Ray's processes are killed when the thread that started them ends, so this thread lasts as long as the process.
_starter = ThreadPoolExecutor(1)
SETUP = "fedpolyp.simulation.cluster.load_trainer"  # an actor runs it first
_PATIENCE = 5.0  # seconds for a cluster to answer
_STARTING = 20.0  # seconds that an unwanted start may continue: it cannot be interrupted
_LIBC = ctypes.CDLL(None)


def actors(config: Config) -> int:
    """How many processes should play the hospitals, if there is room for them."""
    chosen = planned(config, this_machine())[0].runtime.actors
    return min(chosen or seats(config), config.hospitals.count)


def resources(config: Config, actors: int) -> dict[str, float]:
    """The resources of each of `actors`: a CPU for each of its threads, and a share of a GPU."""
    share = config.runtime.gpus_per_client
    if share is None:
        at_hand = sum(int(machine.get("GPU", 0)) for machine in _machines())
        gpus = at_hand if config.runtime.ray_address is not None or not at_hand else min(_gpus(), at_hand)
        share = gpu_share(actors, gpus)
    return {"num_cpus": config.training.threads, "num_gpus": share}


def places(resources: dict[str, float]) -> int:
    """How many actors with `resources` fit on Ray's machines.

    Raises:
        FedpolypError: none fits.
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
    """The resources of each of Ray's machines, by name."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _gpus() -> int:
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


class Started:
    """A Ray instance that is being started in the background, or joined; it ends with the first `with` that uses it."""

    def __init__(self, config: Config, verbose: bool) -> None:
        self._kept = contextlib.ExitStack()
        self._ended = False
        folder = None
        if config.runtime.ray_address is None:
            folder = self._kept.enter_context(scratch.folder())
            self._kept.enter_context(_token())
        self._future: Future[None] = _starter.submit(_start, config, folder, verbose)

    def wait(self) -> None:
        """Wait until it has started.

        Raises:
            UsageError: the address to join is not that of a Ray cluster.
            FedpolypError: it does not start.
        """
        self._future.result()

    @property
    def there(self) -> bool:
        """Whether the start has finished."""
        return self._future.done()

    def __enter__(self) -> "Started":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(Exception):
            self._future.result(_STARTING)
        # If half of it has died, Ray would wait for that half until it ends this process, too.
        if hooks.dead_process():
            hooks.kill_processes_afterwards()
        else:
            ray.shutdown()
        self._kept.close()


def begin(config: Config, verbose: bool = False) -> Started:
    """Start our own Ray instance, or join the one at `runtime.ray_address`.

    Our own listens on this machine only, and serves only processes that know its token, which is in the environment of
    its own processes. Its folder, with sockets that need no token, is closed to other users.

    Raises:
        UsageError: nothing answers at that address.
    """
    keep_out_the_working_folder()
    if config.runtime.ray_address is not None:
        _check_answer(config.runtime.ray_address)
    return Started(config, verbose)


def _check_answer(address: str) -> None:
    """Check the address first: Ray itself would try for many minutes and ignore Ctrl-C."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
        _check_speech(address)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at '{address}', which must be host:port or auto: {error}") from None


def _check_speech(address: str) -> None:
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(_PATIENCE)
        except grpc.FutureTimeoutError:
            raise ValueError("the program that listens there is not Ray") from None


@contextlib.contextmanager
def _token() -> Iterator[None]:
    """Set a secret token for a Ray that this process starts, and pass it to its processes."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    hooks.read_environment_again()
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= before
        hooks.read_environment_again()


def _start(config: Config, folder: Path | None, verbose: bool) -> None:
    where: dict[str, Any] = {"address": config.runtime.ray_address}
    if folder is not None:
        # "local": without an address Ray would join any cluster on this machine.
        where = {"address": "local", "num_cpus": actors(config) * config.training.threads, "_temp_dir": str(folder)}
    path = os.pathsep.join([*sys.path, *filter(None, [os.environ.get("PYTHONPATH")])])
    with _our_handlers(), contextlib.nullcontext() if folder is None else hooks.on_loopback():
        try:
            ray.init(
                **where,
                include_dashboard=False,
                log_to_driver=verbose,
                logging_level="ERROR",
                job_config=hooks.job_without_the_working_folder(),
                runtime_env={
                    "env_vars": {
                        "PYTHONPATH": path,  # the actors import what we import
                        "PYTHONSAFEPATH": "1",
                        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a process without a share of a GPU sees none
                    },
                    "worker_process_setup_hook": SETUP,
                },
            )
        except Exception as error:
            why = " ".join(str(error).split())
            if folder is None:
                raise UsageError(
                    f"the Ray cluster at '{config.runtime.ray_address}' cannot be joined: {why}"
                ) from error
            raise FedpolypError(
                f"Ray does not start, which also happens on a very busy machine: {type(error).__name__}: {why}"
            ) from error


@contextlib.contextmanager
def _our_handlers() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: Ray's C++ side would make it abort without a message.

    Python can set handlers only in the main thread, and this is another one, so the system's own record is kept.
    """
    record = ctypes.create_string_buffer(1024)  # larger than any system's `struct sigaction`
    _LIBC.sigaction(signal.SIGTERM, None, record)
    try:
        yield
    finally:
        _LIBC.sigaction(signal.SIGTERM, record, None)


def load_trainer() -> None:
    """Load an actor's libraries while the driver loads them, which is faster than Flower's way."""
    import fedpolyp.training  # noqa: F401
