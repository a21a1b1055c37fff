from pathlib import Path

import numpy as np
import pytest

from fedpolyp import runs
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.scores import Scores, read_scores
from fedpolyp.runs import RunFolder, scored_images
from tests.tiny import tiny_config

PARTITION = Partition(("a", "b"), {f"hospital-{n}": HospitalImages((f"c{n}",), (f"d{n}",), (f"e{n}",)) for n in (1, 2)})
COUNTS = np.array([[2, 1, 1, 1020], [0, 0, 4, 1020]])  # of 32 by 32 pixels


def made(
    folder: Path, algorithm: str = "fedavg", written_arm: str = "", models: tuple[str, ...] = ("last",)
) -> RunFolder:
    config = tiny_config(algorithm__name=algorithm, seed=3)
    run = runs.create(folder, config, PARTITION)
    rows = []
    for model in models:
        about = (written_arm or config.label, 3, model, 2)
        rows += scored_images(*about, "heldout", ("a", "b"), COUNTS, np.array([0.25, 1.0]))
        rows += scored_images(*about, "test:hospital-1", ("e1",), COUNTS[:1], np.array([0.5]))
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


def test_an_arm_is_called_what_its_config_says_whatever_the_file_says(tmp_path: Path) -> None:
    assert set(read_scores([made(tmp_path / "f", written_arm="another")]).arm.tolist()) == {"fedavg"}


def test_scores_and_areas_follow_from_the_counts(tmp_path: Path) -> None:
    heldout = read_scores([made(tmp_path / "f")]).where(set="heldout")
    assert heldout.score("dice").tolist() == [4 / 6, 0.0]
    assert heldout.score("iou").tolist() == [0.5, 0.0]
    assert heldout.score("hd95").tolist() == [0.25, 1.0]
    assert heldout.area.tolist() == [3 / 1024, 4 / 1024]


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
        (",2,1,1,1020,", ",2,1,,1020,", "invalid literal"),
        (",2,1,1,1020,", ",2,1,-1,1022,", "does not count the 1024 pixels of an image"),
        (",2,1,1,1020,", ",2,1,1,1021,", "does not count the 1024 pixels of an image"),
        (",2,1,1,1020,", f",{2**63 - 1},{2**63 - 1},2,1024,", "does not count the 1024 pixels of an image"),
        (",2,1,1,1020,", f",{10**30},1,1,1020,", "too large"),
        (",2,1,1,1020,", f",{'9' * 5000},1,1,1020,", "limit"),
        ("0.250000", "nan", "not a fraction of the image's diagonal"),
        ("0.250000", "inf", "not a fraction of the image's diagonal"),
        ("0.250000", "-5", "not a fraction of the image's diagonal"),
        (",last,", ",middle,", "got 'middle'"),
        (",last,", ",last:hospital-9,", "'hospital-9', which is not a hospital of the run"),
        (",3,last,", ",4,last,", "of a seed or a round that the run does not have"),
        (",last,2,", ",last,1000000,", "of a seed or a round that the run does not have"),
        (",heldout,b,", ",heldout,a,", "two rows are about one image"),
        (",heldout,b,", ",heldout,d1,", "a row about 'd1' in 'heldout', which the run does not have"),
        (",test:hospital-1,e1,", ",test:hospital-1,a,", "a row about 'a' in 'test:hospital-1'"),
        (",test:hospital-1,", ",test:<b>,", "in 'test:<b>', which the run does not have"),
        (",test:hospital-1,", ",elsewhere,", "in 'elsewhere', which the run does not have"),
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
