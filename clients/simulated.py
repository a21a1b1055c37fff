"""The hospital that a seat of a simulation plays, and the paths of its images and private state."""

import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedpolyp.algorithms.finding import find
from fedpolyp.config import Config
from fedpolyp.data.digest import files_digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.requests import Request
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of, parts_of
from fedpolyp.runs import RunFolder
from fedpolyp.simulation.told import Told, told


def hospital_in_simulation(request: Request, node_config: Mapping[str, Any]) -> Hospital:
    """The hospital that `request` names: a node of a simulation is a seat, and plays any hospital.

    Raises:
        ValueError: this node is not a seat of a simulation, the partition has no such hospital, or this machine lacks
            the run's images or the hospital's private state.
    """
    if "partition-id" not in node_config:
        raise ValueError("this node is neither a seat of a simulation nor a site: its config names no site.toml")
    run, config, path = RunFolder(Path(request.run_folder)), _config(request.config), Path(request.store)
    known = _told(run.path)
    partition = _partition(run.partition_file) if known is None else known.partition
    ids, parts = images_of(partition, request.hospital), parts_of(partition, request.hospital)
    keeps = config.training.optimizer_state == "keep" or find(config.algorithm.name).keeps_state
    keeps = keeps or config.privacy.on or config.privacy.secure_sums
    if keeps and not run.partition_file.exists():
        raise ValueError(
            f"the hospitals' private state is in {run.path}, which is not on the machine {platform.node()}"
        )
    store = _store(path) if known is None else _store_here(path, request.config, known)
    return Hospital(request.hospital, config, store, ids, run.state / request.hospital, parts)


@lru_cache(maxsize=1)
def _told(run_folder: Path) -> Told | None:
    return told(run_folder)


@lru_cache(maxsize=1)
def _partition(file: Path) -> Partition:
    return Partition.load(file)


@lru_cache(maxsize=1)
def _store(path: Path) -> Store:
    return Store.open(path)


@lru_cache(maxsize=1)
def _store_here(path: Path, config: str, known: Told) -> Store:
    """The store at `path`, or, on a machine without it, one of the same source made on this machine."""
    data, seed = _config(config).data, _config(config).data_seed
    try:
        store = _store(path) if path.exists() else open_source(data, seed)
    except FedpolypError as error:
        raise ValueError(f"on the machine {platform.node()}: {error}") from None
    if files_digest(store, known.partition) != known.images:
        raise ValueError(f"{data.called} on the machine {platform.node()} has other images than the run began with")
    return store


@lru_cache(maxsize=1)
def _config(text: str) -> Config:
    return Config.model_validate_json(text)
