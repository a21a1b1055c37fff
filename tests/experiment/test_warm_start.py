"""Initial weights that have learnt from images on which they are now to be scored: it is told, and not forgotten."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.source import open_source
from fedpolyp.experiment.warm_start import seen_before
from fedpolyp.inference.about import about
from fedpolyp.model.weights import MEMBER, noted
from tests.tiny import tiny_config, tiny_run


def saved(file: Path, learnt_from: Iterable[str] | None) -> str:
    """A file with a model's description, from somebody who has learnt from images with these hashes."""
    with zipfile.ZipFile(file, "w") as archive:
        if learnt_from is not None:
            archive.writestr(MEMBER, json.dumps({"learnt_from": [*learnt_from]}))
    return str(file)


def test_weights_that_have_learnt_from_what_is_held_out_now_are_told_with_how_many(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, 0)
    partition = partition_images(store.records, config)
    first = partition.hospitals["hospital-1"]
    known = [*partition.heldout[:2], first.test[0], *first.train]
    hashes = [store.records[row].sha256[:16] for row in store.positions(known).tolist()]
    config = tiny_config(model__initial_weights=saved(tmp_path / "a.keras", hashes))
    held, tests = len(partition.heldout), sum(len(own.test) for own in partition.hospitals.values())
    assert list(seen_before(config, store, partition)) == [
        f"the initial weights a.keras were trained or selected on {count} of the {of}: scores on them are too good"
        for count, of in ((2, f"{held} held-out images"), (1, f"{tests} hospitals' test images"))
    ]


def test_nothing_is_said_of_weights_that_have_learnt_from_other_images_or_do_not_say(tmp_path: Path) -> None:
    config = tiny_config()
    store = open_source(config.data, 0)
    partition = partition_images(store.records, config)
    trained = [id for own in partition.hospitals.values() for id in own.train]
    hashes = [store.records[row].sha256[:16] for row in store.positions(trained).tolist()]
    (tmp_path / "text.keras").write_text("no archive")
    files = [saved(tmp_path / "a.keras", hashes), saved(tmp_path / "b.keras", None), str(tmp_path / "text.keras")]
    for file in files:
        assert list(seen_before(tiny_config(model__initial_weights=file), store, partition)) == []
    assert list(seen_before(config, store, partition)) == []


def test_a_model_has_learnt_from_what_its_initial_weights_have(tmp_path: Path) -> None:
    config = noted(tiny_config(model__initial_weights=saved(tmp_path / "a.keras", ["0123456789abcdef"])))
    run, store = tiny_run(tmp_path / "run", config), open_source(config.data, 0)
    record = {"round": 0, "dice": 0.5, "iou": 0.5, "val_dice": 0.5, "loss": 1.0, "seconds": 1.0}
    run.append_round(record | {"bytes_up": 0, "bytes_down": 0, "hospitals": {}, "refused": []})
    own = [id for hospital in run.partition().hospitals.values() for id in (*hospital.train, *hospital.val)]
    told = about(run, "last", 0, store=store)
    assert "0123456789abcdef" in told.learnt_from and len(told.learnt_from) == len(own) + 1
    records = np.array(store.records, object)[store.positions(own)]
    assert told.known(records) == len(own)
