"""What the actors of a simulation are told through Ray, for not all machines of a cluster can read the run folder."""

import contextlib
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.data.digest import files_digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store

_NAMESPACE = "fedpolyp"


@dataclass(frozen=True, eq=False)
class Told:
    """A run's partition, and by what its images are known."""

    partition: Partition
    images: str  # see `files_digest`


def tell(run_folder: Path, store: Store, partition: Partition) -> None:
    """Have the actors of this process's Ray know the run, wherever they are."""
    from ray.experimental import internal_kv

    value = pickle.dumps(Told(partition, files_digest(store, partition)))
    internal_kv._internal_kv_put(_key(run_folder), value, namespace=_NAMESPACE)


def forget(run_folder: Path) -> None:
    """Take back what `tell` told, unless Ray has gone with it: a cluster outlives its runs."""
    import ray
    from ray.experimental import internal_kv

    with contextlib.suppress(Exception):  # what is left behind harms nobody, and what was trained is not lost for it
        if ray.is_initialized():
            internal_kv._internal_kv_del(_key(run_folder), namespace=_NAMESPACE)


def told(run_folder: Path) -> Told | None:
    """What this actor was told of the run; None where there is no Ray, or another program's."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from ray.experimental import internal_kv

    value = internal_kv._internal_kv_get(_key(run_folder), namespace=_NAMESPACE)
    return None if value is None else pickle.loads(value)


def _key(run_folder: Path) -> str:
    import ray

    return f"{ray.get_runtime_context().get_job_id()}:{run_folder}"
