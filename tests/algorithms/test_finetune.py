"""Fine-tuning: FedAvg, and after the last round one more training at each hospital, scored on its own test images."""

import csv
from pathlib import Path

import pytest

from fedpolyp import metrics
from fedpolyp.data.source import open_source
from fedpolyp.training import shared_trainer
from tests.same_bits import equal
from tests.tiny import carry_here, tiny_config, tiny_run, weights


def test_each_hospital_trains_the_last_model_once_more_and_scores_it_beside_the_global_one(tmp_path: Path) -> None:
    settings = {"federation__rounds": 2, "training__local_steps": 1}
    config = tiny_config(algorithm__name="finetune", algorithm__own_epochs=2, algorithm__own_rate=0.5, **settings)
    carry_here(run := tiny_run(tmp_path / "run", config), config)
    plain = tiny_config(**settings)
    carry_here(fedavg := tiny_run(tmp_path / "fedavg", plain), plain)
    last = weights(run, config)
    assert equal(last, weights(fedavg, plain))

    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    with run.images_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["set"] for row in rows if row["model"] == "own"} == {
        f"test:{name}" for name in run.partition().hospitals
    }
    for name, own in run.partition().hospitals.items():
        train, test = store.positions(own.train), store.positions(own.test)
        tuned = trainer.train(
            last, store.images[train], store.masks[train], hospital=name, round=3, learning_rate=0.5 * 0.005, epochs=2
        )
        assert tuned.steps == 2 * -(-len(own.train) // 4)
        record = run.rounds()[-1]["hospitals"][name]
        for model, kind, entry in ((last, "last", "test_dice"), (tuned.arrays, "own", "own_test_dice")):
            seen = trainer.evaluate(model, store.images[test], store.masks[test])
            found = [row for row in rows if (row["model"], row["set"]) == (kind, f"test:{name}")]
            assert [[int(row[column]) for column in ("tp", "fp", "fn", "tn")] for row in found] == seen.counts.tolist()
            assert record[entry] == pytest.approx(metrics.dice(seen.counts).mean())
    assert "own_test_dice" not in run.rounds()[1]["hospitals"]["hospital-1"]
    assert not any("own_test_dice" in one for one in fedavg.rounds()[-1]["hospitals"].values())
