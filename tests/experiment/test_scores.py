from pathlib import Path

import numpy as np
import pytest

from fedpolyp import runs
from fedpolyp.data.hospitals import HospitalImages, Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.scores import Scores, read_scores
from fedpolyp.runs import RunFolder, scored_images
from tests.tiny import tiny_config

PARTITION = Partition(("a", "b"), {"hospital-1": HospitalImages(("c",), ("d",), ("e",))})
COUNTS = np.array([[2, 1, 1, 12], [0, 0, 4, 12]])


def made(folder: Path, arm: str = "federated", written_arm: str = "", models: tuple[str, ...] = ("last",)) -> RunFolder:
    config = tiny_config(arm=arm, seed=3)
    run = runs.create(folder, config, PARTITION)
    rows = []
    for model in models:
        about = (written_arm or config.arm_label, 3, model, 9)
        rows += scored_images(*about, "heldout", ("a", "b"), COUNTS, np.array([0.25, 1.0]))
        rows += scored_images(*about, "test:hospital-1", ("e",), COUNTS[:1], np.array([0.5]))
    run.write_images(rows)
    return run


def test_runs_become_one_table_that_can_be_selected_from(tmp_path: Path) -> None:
    pooled = made(tmp_path / "p", "pooled", models=("last", "best"))
    local = made(tmp_path / "l", "local", models=("last:hospital-1", "last:hospital-2"))
    scores = read_scores([pooled, local])
    assert len(scores.id) == 12
    chosen = scores.where(arm="local", kind="last", trainer="hospital-2", set="heldout")
    assert chosen.id.tolist() == ["a", "b"] and chosen.counts.tolist() == COUNTS.tolist()
    assert chosen.hd95.tolist() == [0.25, 1.0] and set(chosen.seed.tolist()) == {3}
    assert scores.where(kind="best").arm.tolist() == ["pooled"] * 3


def test_an_old_federated_run_is_named_after_its_strategy(tmp_path: Path) -> None:
    assert set(read_scores([made(tmp_path / "f", written_arm="federated")]).arm.tolist()) == {"fedavg"}


def test_scores_and_areas_follow_from_the_counts(tmp_path: Path) -> None:
    heldout = read_scores([made(tmp_path / "f")]).where(set="heldout")
    assert heldout.score("dice").tolist() == [4 / 6, 0.0]
    assert heldout.score("iou").tolist() == [0.5, 0.0]
    assert heldout.score("hd95").tolist() == [0.25, 1.0]
    assert heldout.area.tolist() == [3 / 16, 4 / 16]


def test_by_image_is_in_the_order_asked_for_and_averages_what_is_about_one_image(tmp_path: Path) -> None:
    scores = read_scores([made(tmp_path / "f")])
    doubled = Scores(**{**vars(scores.where(set="heldout")), "id": np.array(["a", "a"])})
    assert scores.where(set="heldout").by_image(["b", "a"]).tolist() == [0.0, 4 / 6]
    assert doubled.by_image(["a"]).tolist() == pytest.approx([2 / 6])
    with pytest.raises(KeyError):
        doubled.by_image(["b"])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",tp,", ",x,", "no column 'tp'"),
        (",2,1,1,12,", ",2,1,,12,", "invalid literal"),
        (",2,1,1,12,", ",2,1,-1,12,", "fewer than none"),
        ("0.250000", "nan", "no finite distance"),
        (",last,", ",middle,", "got 'middle'"),
        ("0.500000\n", "", "could not convert"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    run = made(tmp_path / "f")
    run.images_file.write_text(run.images_file.read_text().replace(old, new))
    with pytest.raises(FedpolypError, match=f"{run.images_file} is damaged.*{problem}"):
        read_scores([run])


def test_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    run = made(tmp_path / "f")
    run.write_images([])
    with pytest.raises(FedpolypError, match="is damaged: it has no rows"):
        read_scores([run])
    run.images_file.unlink()
    with pytest.raises(FedpolypError, match=f"cannot read {run.images_file}: No such file"):
        read_scores([run])
