"""Gives the actors of a simulation the partition through Ray, because some machines of a cluster cannot read the run
folder.
"""

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
    """A run's partition, and the digest of its images."""

    partition: Partition
    images: str  # see `files_digest`


def tell(run_folder: Path, store: Store, partition: Partition) -> None:
    """Give the run to the actors of this process's Ray, wherever they are."""
    from ray.experimental import internal_kv

    value = pickle.dumps(Told(partition, files_digest(store, partition)))
    internal_kv._internal_kv_put(_key(run_folder), value, namespace=_NAMESPACE)


def forget(run_folder: Path) -> None:
    """Remove what `tell` stored, unless Ray has ended: a cluster outlives its runs."""
    import ray
    from ray.experimental import internal_kv

    # Leftovers do no harm, and finished trainings must not be lost because of them.
    with contextlib.suppress(Exception):
        if ray.is_initialized():
            internal_kv._internal_kv_del(_key(run_folder), namespace=_NAMESPACE)


def told(run_folder: Path) -> Told | None:
    """What this actor knows of the run; None if there is no Ray, or it is another program's."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from ray.experimental import internal_kv

    value = internal_kv._internal_kv_get(_key(run_folder), namespace=_NAMESPACE)
    return None if value is None else pickle.loads(value)


def _key(run_folder: Path) -> str:
    import ray

    return f"{ray.get_runtime_context().get_job_id()}:{run_folder}"
