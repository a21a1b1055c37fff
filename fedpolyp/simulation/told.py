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
from fedpolyp.simulation import hooks


@dataclass(frozen=True, eq=False)
class Told:
    """A run's partition, and the digest of its images."""

    partition: Partition
    images: str  # see `files_digest`


def tell(run_folder: Path, store: Store, partition: Partition) -> None:
    """Give the run to the actors of this process's Ray, wherever they are."""
    hooks.store_in_ray(_key(run_folder), pickle.dumps(Told(partition, files_digest(store, partition))))


def forget(run_folder: Path) -> None:
    """Remove what `tell` stored, unless Ray has ended: a cluster outlives its runs."""
    import ray

    # Leftovers do no harm, and finished trainings must not be lost because of them.
    with contextlib.suppress(Exception):
        if ray.is_initialized():
            hooks.remove_from_ray(_key(run_folder))


def told(run_folder: Path) -> Told | None:
    """What this actor knows of the run; None if there is no Ray, or it is another program's."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    value = hooks.stored_in_ray(_key(run_folder))
    return None if value is None else pickle.loads(value)


def _key(run_folder: Path) -> str:
    import ray

    return f"{ray.get_runtime_context().get_job_id()}:{run_folder}"
