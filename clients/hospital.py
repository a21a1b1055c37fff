"""Which hospital an order plays, and where its images and its private state are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.messages import Order
from fedpolyp.config import Config
from fedpolyp.data.hospitals import HospitalImages, Partition
from fedpolyp.data.store import Store
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
        ValueError: this node is no seat of a simulation, or there is no such hospital in the deal.
    """
    if "partition-id" not in node_config:
        raise ValueError("this node is neither a seat of a simulation nor a site: its config names no site.toml")
    run = RunFolder(Path(order.run_folder))
    hospitals = _partition(run.partition_file).hospitals
    if order.hospital not in hospitals:
        raise ValueError(f"the order names {order.hospital}, which is not in the deal")
    return Hospital(
        order.hospital,
        _config(order.config),
        _store(Path(order.store)),
        hospitals[order.hospital],
        run.state / order.hospital,
    )


@lru_cache(maxsize=1)
def _partition(file: Path) -> Partition:
    return Partition.load(file)


@lru_cache(maxsize=1)
def _store(path: Path) -> Store:
    return Store.open(path)


@lru_cache(maxsize=1)
def _config(text: str) -> Config:
    return Config.model_validate_json(text)
