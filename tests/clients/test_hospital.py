"""A seat of a simulation plays the hospital it is asked to play."""

from pathlib import Path

import numpy as np
import pytest

from clients.hospital import hospital_in_simulation
from clients.messages import Order
from fedpolyp import runs
from fedpolyp.config import Config, load
from fedpolyp.data.hospitals import HospitalImages, Partition
from fedpolyp.data.store import ImageRecord, IngestReport, write_store

SEAT = {"partition-id": 0, "num-partitions": 2}
IDS = ("a", "b", "c", "d", "e", "f", "g")
PARTITION = Partition(
    ("g",),
    {"hospital-1": HospitalImages(("c", "a"), ("b",), ()), "hospital-2": HospitalImages(("d",), ("e",), ("f",))},
)


def tiny() -> Config:
    return load(overrides={"data.image_size": 32, "model.base_filters": 2, "seed": 5})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a run and a store, in which image i is filled with i and mask i has i pixels."""
    images = np.stack([np.full((32, 32, 3), row, np.uint8) for row in range(len(IDS))])
    masks = np.stack([np.arange(32 * 32).reshape(32, 32) < row for row in range(len(IDS))]).astype(np.uint8)
    records = [ImageRecord(id, "phantom", 0, 32, 32, 0.5, (0.5, 0.5, 0.5), row, "ab") for row, id in enumerate(IDS)]
    write_store(tmp_path / "store", images, masks, records, IngestReport(len(IDS)))
    runs.create(tmp_path / "run", tiny(), PARTITION)
    return tmp_path


def order(site: Path, hospital: str) -> Order:
    return Order(hospital, 1, tiny().model_dump_json(), run_folder=str(site / "run"), store=str(site / "store"))


def test_a_seat_plays_whichever_hospital_the_order_names(site: Path) -> None:
    for name in ("hospital-1", "hospital-2", "hospital-1"):
        hospital = hospital_in_simulation(order(site, name), SEAT)
        assert (hospital.name, hospital.config, hospital.ids) == (name, tiny(), PARTITION.hospitals[name])
        assert hospital.state == site / "run" / "state" / name


@pytest.mark.parametrize(("set", "rows"), [("train", [2, 0]), ("val", [1]), ("test", [])], ids=["train", "val", "test"])
def test_a_hospitals_images_are_its_own_in_the_order_of_its_ids(site: Path, set: str, rows: list[int]) -> None:
    images, masks = hospital_in_simulation(order(site, "hospital-1"), SEAT).images(set)
    assert images.shape == (len(rows), 32, 32, 3) and masks.shape == (len(rows), 32, 32)
    assert images[:, 0, 0, 0].tolist() == rows
    assert masks.sum(axis=(1, 2)).tolist() == rows


def test_a_node_that_is_no_seat_of_a_simulation_plays_none(site: Path) -> None:
    with pytest.raises(ValueError, match="neither a seat of a simulation nor a site"):
        hospital_in_simulation(order(site, "hospital-1"), {"hospital": "hospital-1"})


@pytest.mark.parametrize("name", ["hospital-3", "", "../hospital-1", "heldout"])
def test_a_hospital_that_is_not_in_the_deal_is_refused(site: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^the order names {name}, which is not in the deal$"):
        hospital_in_simulation(order(site, name), SEAT)
