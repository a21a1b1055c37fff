"""Which hospital an order plays, and where its images and its private state are."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.messages import Order
from clients.told import Told, told
from fedpolyp.config import Config
from fedpolyp.data.digest import files_digest
from fedpolyp.data.hospitals import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RunFolder

if TYPE_CHECKING:
    from fedpolyp.training import Images


@dataclass(frozen=True)
class Hospital:
    """One hospital: its name, its images as ids of a store, and the folder of its private state."""

    name: str
    config: Config
    store: Store
    ids: HospitalImages
    state: Path

    def images(self, set: str) -> "tuple[Images, Images]":
        """Images (N, S, S, 3) and masks (N, S, S) of its 'train', 'val' or 'test' set."""
        positions = self.store.positions(getattr(self.ids, set))
        return self.store.images[positions], self.store.masks[positions]


def hospital_in_simulation(order: Order, node_config: Mapping[str, Any]) -> Hospital:
    """The hospital that `order` names: a node of a simulation is a seat, and plays whichever it is asked to.

    Raises:
        ValueError: this node is no seat of a simulation, there is no such hospital in the deal, or this machine lacks
            the run's images or the hospital's private state.
    """
    if "partition-id" not in node_config:
        raise ValueError("this node is neither a seat of a simulation nor a site: its config names no site.toml")
    run, config, path = RunFolder(Path(order.run_folder)), _config(order.config), Path(order.store)
    known = _told(run.path)
    hospitals = (_partition(run.partition_file) if known is None else known.partition).hospitals
    if order.hospital not in hospitals:
        raise ValueError(f"the order names {order.hospital}, which is not in the deal")
    if config.training.optimizer_state == "keep" and not run.partition_file.exists():
        raise ValueError(f"--optimizer-state keep needs {run.path}, which is not on the machine {platform.node()}")
    store = _store(path) if known is None else _store_here(path, order.config, known)
    return Hospital(order.hospital, config, store, hospitals[order.hospital], run.state / order.hospital)


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
    """The store at `path`, or, on a machine that has none there, one of the same source made on this machine."""
    data, seed = _config(config).data, _config(config).data_seed
    try:
        store = _store(path) if path.exists() else open_source(data, seed)
    except FedpolypError as error:
        raise ValueError(f"on the machine {platform.node()}: {error}") from None
    if files_digest(store, known.partition) != known.images:
        raise ValueError(f"{data.source} on the machine {platform.node()} has other images than the run began with")
    return store


@lru_cache(maxsize=1)
def _config(text: str) -> Config:
    return Config.model_validate_json(text)
