"""The rows of images.csv."""

import csv
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs import RunFolder, scored_images

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def test_images_csv_has_one_row_a_scored_image_under_the_promised_columns(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    counts = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    rows = scored_images("federated", 3, "best", 9, "test:hospital-1", ["x", "y,z"], counts, np.array([0.5, 1 / 3]))
    run.write_images(iter(rows))
    with run.images_file.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    about = {"arm": "federated", "seed": "3", "model": "best", "round": "9", "set": "test:hospital-1"}
    assert list(read[0]) == ["arm", "seed", "model", "round", "set", "id", "tp", "fp", "fn", "tn", "hd95"]
    assert read == [
        about | {"id": "x", "tp": "1", "fp": "2", "fn": "3", "tn": "4", "hd95": "0.500000"},
        about | {"id": "y,z", "tp": "5", "fp": "6", "fn": "7", "tn": "8", "hd95": "0.333333"},
    ]


def test_scored_images_refuses_more_ids_than_scores() -> None:
    with pytest.raises(ValueError, match="zip"):
        scored_images("federated", 0, "last", 1, "heldout", ["x", "y"], np.zeros((1, 4), np.int64), np.zeros(1))
