"""A seat of a simulation plays the hospital it is asked to play."""

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients import simulated
from clients.simulated import hospital_in_simulation
from fedpolyp import runs
from fedpolyp.config import AlgorithmConfig, Config, load
from fedpolyp.data.digest import files_digest
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import ImageRecord, IngestReport, write_store
from fedpolyp.exchange.requests import Evaluate, Request, Train
from fedpolyp.simulation.told import Told

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


def asked(site: Path, hospital: str) -> Request:
    return Train(hospital, 1, tiny().model_dump_json(), run_folder=str(site / "run"), store=str(site / "store"))


def test_a_seat_plays_whichever_hospital_the_request_names(site: Path) -> None:
    for name in ("hospital-1", "hospital-2", "hospital-1"):
        hospital = hospital_in_simulation(asked(site, name), SEAT)
        assert (hospital.name, hospital.config, hospital.ids) == (name, tiny(), PARTITION.hospitals[name])
        assert hospital.state == site / "run" / "state" / name


@pytest.mark.parametrize(("set", "rows"), [("train", [2, 0]), ("val", [1]), ("test", [])], ids=["train", "val", "test"])
def test_a_hospitals_images_are_its_own_in_the_order_of_its_ids(site: Path, set: str, rows: list[int]) -> None:
    images, masks = hospital_in_simulation(asked(site, "hospital-1"), SEAT).images(set)
    assert images.shape == (len(rows), 32, 32, 3) and masks.shape == (len(rows), 32, 32)
    assert images[:, 0, 0, 0].tolist() == rows
    assert masks.sum(axis=(1, 2)).tolist() == rows


def test_the_seat_of_pooled_training_has_the_training_images_of_all_and_no_others(site: Path) -> None:
    assert hospital_in_simulation(asked(site, "pooled"), SEAT).ids == HospitalImages(("a", "c", "d"), (), ())


def test_a_node_that_is_no_seat_of_a_simulation_plays_none(site: Path) -> None:
    with pytest.raises(ValueError, match="neither a seat of a simulation nor a site"):
        hospital_in_simulation(asked(site, "hospital-1"), {"hospital": "hospital-1"})


@pytest.mark.parametrize("name", ["hospital-3", "", "../hospital-1", "heldout"])
def test_a_hospital_that_is_not_in_the_partition_is_refused(site: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^the request names {name}, which is not in the partition$"):
        hospital_in_simulation(asked(site, name), SEAT)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Partition, Request]:
    """A run's request on a machine with neither the run folder nor the store, which was told of the run."""
    config = load(overrides={"data.image_size": 32, "data.phantom_images": 20, "hospitals.count": 2, "seed": 5})
    store = open_source(config.data, config.data_seed)
    partition = partition_images(store.records, config)
    known = Told(partition, files_digest(store, partition))
    monkeypatch.setattr(simulated, "told", lambda run_folder: known)
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores-here"))
    gone = str(tmp_path / "gone")
    return config, partition, Evaluate("hospital-1", 1, config.model_dump_json(), run_folder=gone, store=gone)


def test_a_machine_without_the_store_makes_one_of_the_same_images(
    tmp_path: Path, elsewhere: tuple[Config, Partition, Request]
) -> None:
    _, partition, request = elsewhere
    played = hospital_in_simulation(request, SEAT)
    assert played.ids == partition.hospitals["hospital-1"]
    assert played.store.path.parent == tmp_path / "stores-here"
    assert len(played.images("train")[0]) == len(played.ids.train) > 0


def test_a_machine_whose_images_are_others_than_the_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch, elsewhere: tuple[Config, Partition, Request]
) -> None:
    _, partition, request = elsewhere
    monkeypatch.setattr(simulated, "told", lambda run_folder: Told(partition, "of other images"))
    with pytest.raises(ValueError, match=f"phantom on the machine {platform.node()} has other images than the run"):
        hospital_in_simulation(replace(request, run_folder=request.run_folder + "-too"), SEAT)


def test_a_machine_without_the_source_is_refused_with_its_name(elsewhere: tuple[Config, Partition, Request]) -> None:
    config, _, request = elsewhere
    missing = config.model_copy(update={"data": config.data.model_copy(update={"source": "/no/such/folder"})})
    with pytest.raises(ValueError, match=f"on the machine {platform.node()}: there is no /no/such/folder"):
        hospital_in_simulation(replace(request, config=missing.model_dump_json()), SEAT)


def test_a_machine_without_the_run_folder_keeps_no_private_state(elsewhere: tuple[Config, Partition, Request]) -> None:
    config, _, request = elsewhere
    keeping = config.model_copy(update={"training": config.training.model_copy(update={"optimizer_state": "keep"})})
    said = f"^the hospitals' private state is in {request.run_folder}, which is not on the machine {platform.node()}$"
    with pytest.raises(ValueError, match=said):
        hospital_in_simulation(replace(request, config=keeping.model_dump_json()), SEAT)
    own_layers = config.model_copy(update={"algorithm": AlgorithmConfig(name="fedbn")})
    with pytest.raises(ValueError, match=said):
        hospital_in_simulation(replace(request, config=own_layers.model_dump_json()), SEAT)
