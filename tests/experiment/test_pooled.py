import csv
from pathlib import Path

import pytest

from fedpolyp.data.source import open_source
from fedpolyp.experiment import pooled
from fedpolyp.model.arrays import equal
from fedpolyp.watcher import Watcher
from tests.tiny import federate, final, tiny_config, tiny_run


def train(folder: Path, stop_after: int | None = None, **overrides):  # type: ignore[no-untyped-def]
    config = tiny_config(arm="pooled", **overrides)
    run = tiny_run(folder, config)
    store = open_source(config.data, config.seed)

    class Stop(Watcher):
        def finished_round(self, record):  # type: ignore[no-untyped-def]
            if record["round"] == stop_after:
                raise KeyboardInterrupt

    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            pooled.run(config, run, store, run.partition(), Stop())
    pooled.run(config, run, store, run.partition(), Watcher())
    return run, config


def test_a_resumed_pooled_run_ends_in_the_bits_of_one_never_interrupted(tmp_path: Path) -> None:
    whole, config = train(tmp_path / "whole")
    broken, _ = train(tmp_path / "broken", stop_after=1)
    assert equal(final(whole, config).arrays, final(broken, config).arrays)
    assert [record["round"] for record in broken.rounds()] == [0, 1, 2, 3]


def test_it_sees_every_hospitals_training_images_once_a_round_and_no_others(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run")
    images = sum(len(hospital.train) for hospital in run.partition().hospitals.values())
    assert [record["hospitals"]["pooled"]["images"] for record in run.rounds()[1:]] == [images] * 3


def test_it_starts_where_the_federation_of_the_same_seed_starts_and_scores_the_same_images(tmp_path: Path) -> None:
    run, config = train(tmp_path / "pooled")
    federated_config = tiny_config()
    federated = tiny_run(tmp_path / "federated", federated_config)
    federate(federated, federated_config)
    first, other = run.rounds()[0], federated.rounds()[0]
    assert [first[name] for name in ("dice", "iou", "loss", "val_dice")] == [
        other[name] for name in ("dice", "iou", "loss", "val_dice")
    ]
    scored = []
    for folder in (run, federated):
        with folder.images_file.open() as stream:
            scored.append([(row["model"], row["set"], row["id"]) for row in csv.DictReader(stream)])
    assert sorted(scored[0]) == sorted(scored[1])
    assert not equal(final(run, config).arrays, final(federated, federated_config).arrays)
