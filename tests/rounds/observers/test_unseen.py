"""Sources that no hospital has are scored now and then and at the end, by the last models and the best."""

import csv
from pathlib import Path
from typing import Any

import pytest

from fedpolyp import metrics, runs
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.source import open_source
from tests.tiny import carry_here, tiny_config


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
def test_every_so_many_rounds_and_at_the_end_and_each_image_once_a_model(tmp_path: Path, algorithm: str) -> None:
    config = tiny_config(algorithm__name=algorithm, data__unseen_every=2, data__held_out=0.2)
    store = open_source(config.data, config.seed)
    made = partition_images(store.records, config)
    held, away = made.heldout[::2], made.heldout[1::2]
    run = runs.create(tmp_path / "run", config, Partition(held, made.hospitals, {"else where": away}), store.path)
    carry_here(run, config)
    assert run.partition().unseen == {"else where": away}
    told: dict[int, Any] = {record["round"]: record.get("unseen") for record in run.rounds()}
    assert told[1] is None and all(set(told[number]) == {"else where"} for number in (0, 2, 3))
    with run.images_file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["set"] == "unseen:else where"]
    models = ("",) if algorithm == "fedavg" else tuple(f":{name}" for name in made.hospitals)
    wanted = [(f"{kind}{of}", id) for kind in ("last", "best") for of in models for id in away]
    assert sorted((row["model"], row["id"]) for row in rows) == sorted(wanted)
    dice = []
    for row in rows:
        tp, fp, fn = (int(row[name]) for name in ("tp", "fp", "fn"))
        if row["model"].startswith("last"):
            dice.append(2 * tp / (2 * tp + fp + fn))
    assert told[3]["else where"] == pytest.approx(sum(dice) / len(dice))
    seen = run.predictions("else where")
    assert sorted(seen) == sorted(f"last{of}" for of in models)
    truths = store.masks[store.positions(away)]
    counts = {name: metrics.count_pixels(masks, truths).tolist() for name, masks in seen.items()}
    of_last = {(row["model"], row["id"]): row for row in rows}
    for name, own in counts.items():
        assert own == [[int(of_last[name, id][n]) for n in ("tp", "fp", "fn", "tn")] for id in away]
