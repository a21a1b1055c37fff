"""images.csv holds every held-out and test image, scored by the last and the best models, each of them once."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedpolyp import metrics
from fedpolyp.model.arrays import Arrays
from fedpolyp.training import Evaluation, Images, Trainer
from tests.tiny import Whole, carry_here, federate, final, tiny_config, tiny_run


def test_headline_dice_follows_from_images_csv_alone(whole: Whole) -> None:
    run = whole(tiny_config())
    with run.images_file.open() as stream:
        rows = list(csv.DictReader(stream))
    last = [row for row in rows if row["model"] == "last" and row["set"] == "heldout"]
    counts = np.array([[int(row[name]) for name in ("tp", "fp", "fn", "tn")] for row in last])
    assert [row["id"] for row in last] == list(run.partition().heldout)
    assert metrics.dice(counts).mean() > 0
    assert metrics.dice(counts).mean() == pytest.approx(run.rounds()[-1]["dice"], abs=1e-12)
    tests = {row["set"] for row in rows} - {"heldout"}
    assert tests == {"test:hospital-1", "test:hospital-2", "test:hospital-3"}
    best = {int(row["round"]) for row in rows if row["model"] == "best"}
    vals = [record["val_dice"] for record in run.rounds()]
    assert best == {int(np.argmax(vals))}


def fingerprint(arrays: Arrays) -> int:
    return hash(b"".join(array.tobytes() for array in arrays.values()))


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
def test_the_last_model_infers_each_held_out_and_each_test_image_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    config = tiny_config(algorithm__name=algorithm, federation__rounds=2)
    run, inferred, infer = tiny_run(tmp_path / "run", config), Counter[tuple[int, int]](), Trainer._run

    def counting(self: Trainer, arrays: Arrays, images: Images, masks: Images) -> tuple[Images, Evaluation]:
        inferred.update((fingerprint(arrays), hash(image.tobytes())) for image in images)
        return infer(self, arrays, images, masks)  # type: ignore[return-value]

    monkeypatch.setattr(Trainer, "_run", counting)
    carry_here(run, config)
    partition, last = run.partition(), final(run, config)
    tests = sum(len(own.test) for own in partition.hospitals.values())
    for mark, arrays in last.models.items():
        validated = sum(len(own.val) for name, own in partition.hospitals.items() if mark in ("", name))
        seen = [times for (model, _), times in inferred.items() if model == fingerprint(arrays)]
        assert set(seen) == {1} and len(seen) == len(partition.heldout) + tests + validated


def test_a_finished_run_writes_the_same_images_again(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    images, masks = run.images_file.read_bytes(), run.predictions()
    run.images_file.unlink()
    federate(run, config)
    assert run.images_file.read_bytes() == images
    assert all(np.array_equal(masks[name], again) for name, again in run.predictions().items())
