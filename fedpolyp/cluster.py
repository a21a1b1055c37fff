"""The Ray that a simulation computes on: started in the background, for it takes as long as importing TensorFlow."""

import os
import socket
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Read by Ray when it is imported.
os.environ.setdefault("RAY_DISABLE_METRICS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # in this process, where Ray would warn of it
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # none of them would have our runtime_env
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call after the shutdown must not start a second Ray

import ray

from fedpolyp.config import Config
from fedpolyp.errors import UsageError
from fedpolyp.planning import planned, seats, this_machine

# Ray's processes are killed when the thread that started them ends: this one waits for the interpreter's end.
_starter = ThreadPoolExecutor(1)
SETUP = "fedpolyp.cluster.load_trainer"  # what an actor does first
_PATIENCE = 5.0  # seconds for a cluster to answer


def actors(config: Config) -> int:
    """How many processes are to play the hospitals, where so many find a place."""
    chosen = planned(config, this_machine())[0].runtime.actors
    return min(chosen or seats(config), config.hospitals.count)


def begin(config: Config, verbose: bool = False) -> "Future[None]":
    """Start a Ray of our own, or join the one at `runtime.ray_address`; the future ends when it is there.

    Raises:
        UsageError: nothing answers at that address.
    """
    if config.runtime.ray_address is not None:
        _check_answer(config.runtime.ray_address)
    return _starter.submit(_start, config, verbose)


def _check_answer(address: str) -> None:
    """Ray itself would try for many minutes, deaf to Ctrl-C."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at '{address}', which must be host:port or auto: {error}") from None


def _start(config: Config, verbose: bool) -> None:
    # "local": without an address Ray would join whatever cluster somebody has started on this machine.
    where: dict[str, Any] = {"address": "local", "num_cpus": actors(config) * config.training.threads}
    if config.runtime.ray_address is not None:
        where = {"address": config.runtime.ray_address}
    path = os.pathsep.join([*sys.path, *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        **where,
        include_dashboard=False,
        log_to_driver=verbose,
        logging_level="ERROR",
        runtime_env={
            "env_vars": {
                "PYTHONPATH": path,  # the actors import what we import
                "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who was given no GPU sees none
            },
            "worker_process_setup_hook": SETUP,
        },
    )


def load_trainer() -> None:
    """Load what an actor computes with, while the driver loads it, and faster than Flower would."""
    import fedpolyp.training  # noqa: F401
