"""The runs behind the tables: each is carried out once, kept, and told."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.config import PHANTOM, load
from fedpolyp.errors import UsageError
from fedpolyp.runs import RunFolder
from scripts import measure_results as measure
from scripts.studies import STUDIES, Study
from tests.real_sites import draw_images

SMALL: dict[str, Any] = {
    **{"data.image_size": 32, "hospitals.count": 3, "model.base_filters": 4, "training.batch_size": 4},
    **{"training.optimizer": "adam", "federation.rounds": 1},
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_is_an_experiment_that_there_can_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(measure.TRIED))
    configs = []
    for own in STUDIES[name].arms.values():
        settings = {**STUDIES[name].shared, **own}
        configs.append(load(None, settings.pop("preset", None), settings))
    assert len({config.model_dump_json() for config in configs}) == len(configs)


def test_a_run_is_carried_out_and_its_scores_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "small", Study(SMALL, {"fedavg": {}}, (0,)))
    chosen = argparse.Namespace(
        data=str(draw_images(tmp_path / "data", 40)), results=tmp_path / "results", runs=tmp_path / "runs"
    )
    assert measure.carry("small", "fedavg", 0, chosen) == 0
    kept = json.loads((tmp_path / "results" / "small" / "fedavg-0.json").read_text())
    assert len(kept["dice"]) == len(kept["val_dice"]) == 2
    assert sum(kept["images"]) / len(kept["images"]) == pytest.approx(kept["dice"][-1], abs=1e-4)
    assert str(tmp_path) not in json.dumps(kept) and "patient" not in json.dumps(kept)
    assert not (tmp_path / "runs" / "small" / "fedavg-0").exists()


def test_a_run_that_another_study_has_is_not_carried_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "small", Study(SMALL, {"plain": {}, "longer": {"federation.rounds": 2}}))
    monkeypatch.setitem(STUDIES, "other", Study(SMALL, {"fedavg": {"algorithm.name": "fedavg"}}, attacked=True))
    path = measure.file(tmp_path, "other", "fedavg", 1)
    path.parent.mkdir()
    path.write_text('{"dice": [0.5], "settings": {"algorithm.name": "fedavg"}}')
    chosen = argparse.Namespace(data="nowhere", results=tmp_path, runs=tmp_path / "runs")
    assert measure.carry("small", "plain", 1, chosen) == 0
    kept = json.loads(measure.file(tmp_path, "small", "plain", 1).read_text())
    assert kept == {"dice": [0.5], "settings": SMALL}
    assert measure.of_another_study("small", "plain", 0, tmp_path) is None  # another seed
    assert measure.of_another_study("small", "longer", 1, tmp_path) is None
    assert measure.of_another_study("other", "fedavg", 1, tmp_path) is None  # its attack would be missing


def test_private_runs_begin_from_a_run_on_drawn_images_and_are_scored_on_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SMALL | {"model.normalization": "group", "data.phantom_images": 40}
    private = {"algorithm.name": "fedadam", "privacy.mode": "local"}
    monkeypatch.setitem(STUDIES, "small", Study(small, {"private": private}, (0,), start=small))
    chosen = argparse.Namespace(
        data=str(draw_images(tmp_path / "data", 40)), results=tmp_path / "results", runs=tmp_path / "runs"
    )
    with pytest.raises(UsageError, match="a model is a run, or a file saved"):
        measure.carry("small", "private", 0, chosen)
    assert measure.carry("small", measure.START, 0, chosen) == 0
    began = RunFolder(tmp_path / "runs" / "small" / "start-0")
    assert began.config().data.source == PHANTOM
    assert measure.carry("small", "private", 0, chosen) == 0
    kept = json.loads((tmp_path / "results" / "small" / "private-0.json").read_text())
    assert [len(kept["val_dice"]), *map(type, kept["val_dice"])] == [2, float, float]
    assert kept["membership"].keys() == {"loss", "calibrated"}
    assert all(low <= area <= high for area, low, high in kept["membership"].values())
    assert str(tmp_path) not in json.dumps(kept)


def test_the_table_has_a_row_for_every_arm_and_means_over_its_seeds() -> None:
    run = {"val_dice": [0.1, 0.5], "dice": [0.1, 0.4], "over_pixels": 0.6, "bytes_up": 3_000_000}
    found = {"a": {0: run, 1: run | {"dice": [0.1, 0.6]}}}
    lines = measure.table(Study({}, {"a": {}, "b": {}}), found).splitlines()
    assert lines[2:] == [
        "| a | 2 | 0.500 | 0.500 | 0.400 to 0.600 | 0.100 | 0.600 | 3 |",
        "| b | 0 | | | | | | |",
    ]
