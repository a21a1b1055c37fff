"""What a simulation uses of Ray and Flower that they do not promise to keep: all of it is in this file, with tests."""

import atexit
import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from fedpolyp.process_tree import descendants


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Make a Ray that starts here listen on 127.0.0.1 only.

    Ray does so if it is not a cluster of machines, but only on macOS and Windows. An address for `ray.init` does not
    help: Ray turns 127.0.0.1 into the machine's own address.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def read_environment_again() -> None:
    """Make Ray in this process read RAY_AUTH_MODE and RAY_AUTH_TOKEN again: it remembers what it has read once."""
    raylet: Any = importlib.import_module("ray._raylet")  # whose type stubs leave these out
    raylet.AuthenticationTokenLoader.instance().reset_cache()
    raylet.Config.initialize("")


def job_without_the_working_folder() -> Any:
    """A `JobConfig` for `ray.init` with which Ray does not put the working folder first on its workers' sys.path."""
    from ray.job_config import JobConfig

    class Job(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True  # a working folder of the job's own would take the place of ours

    return Job()


def dead_process() -> str:
    """The name of a required process of Ray, started by this process, that has ended; '' if all are alive.

    It is also '' while Ray starts or stops processes: ask again.
    """
    from ray._private import ray_constants, worker

    node = worker._global_node
    if node is None:
        return ""
    needed = (ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET)
    try:
        dead = node.dead_processes()
    except RuntimeError:  # its table has changed under it: Ray starts or stops processes in another thread
        return ""
    return next((str(kind) for kind, _ in dead if kind in needed), "")


_NAMESPACE = "fedpolyp"  # of what is stored in Ray


def store_in_ray(key: str, value: bytes) -> None:
    """Store `value` where all processes of this Ray find it, on whatever machine they are."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(key, value, namespace=_NAMESPACE)


def stored_in_ray(key: str) -> bytes | None:
    """What `store_in_ray` stored; None if there is nothing."""
    from ray.experimental import internal_kv

    value: bytes | None = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
    return value


def remove_from_ray(key: str) -> None:
    """Remove what `store_in_ray` stored, if it is there."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(key, namespace=_NAMESPACE)


# It waits for the end of its standard input, a pipe that ends with this process.
_KILL = """
import signal, sys
sys.stdin.buffer.read()
for process in map(int, sys.argv[1:]):
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
_killers: list["subprocess.Popen[bytes]"] = []  # kept alive: each holds the other end of such a pipe


def kill_processes_afterwards() -> None:
    """Kill what is left of a Ray started by this process as soon as this process has ended, however it ends.

    Not earlier: Ray ends a process at once, without a message, when its raylet has gone. `ray.shutdown` is not enough:
    it would wait a minute for a dead raylet, and some processes that the raylet has started would outlive it.
    """
    import ray
    from ray._private import worker

    if worker._global_node is None:
        return
    atexit.unregister(ray.shutdown)
    processes = [info.process for kind in worker._global_node.all_processes.values() for info in kind]
    started = [process.pid for process in processes if process.poll() is None]
    handles = []  # handles stay valid even if another process later gets the same number
    for number in dict.fromkeys([*started, *(found for process in started for found in descendants(process))]):
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(number))
    _killers.append(
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KILL, *map(str, handles)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=handles,
            start_new_session=True,
        )
    )
    for handle in handles:
        os.close(handle)


@contextlib.contextmanager
def pool_of(actors: int) -> Iterator[list[Any]]:
    """Let Flower start this many actors; the yielded list holds their handles as soon as there are any.

    Flower itself would start an actor wherever the cluster has resources left. If GPUs are shared, it would start more
    than there is room for: the others would wait for ever, and so would their messages. Nor does it give access to its
    actors.
    """
    raybackend: Any = importlib.import_module("flwr.server.superlink.fleet.vce.backend.raybackend")
    before, handles = raybackend.BasicActorPool, list[Any]()

    class Pool(before):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.actors_capacity = actors

        def add_actors_to_pool(self, num_actors: int) -> None:
            super().add_actors_to_pool(num_actors)
            handles.extend(self.pool)

    raybackend.BasicActorPool = Pool
    try:
        yield handles
    finally:
        raybackend.BasicActorPool = before
