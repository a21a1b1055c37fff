"""A partition made elsewhere, as a CSV: every row is followed or refused."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from fedpolyp.config import Config
from fedpolyp.data.partition.assign import partition_images, partition_notes
from fedpolyp.errors import UsageError
from tests.image_tables import all_sets, images_at, make_config, make_records, record

RECORDS = make_records([1] * 40)
IDS = [r.id for r in RECORDS]


def write(folder: Path, rows: Iterable[Sequence[str]], head: str = "id,hospital,set") -> Config:
    (folder / "partition.csv").write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    return make_config(hospitals__scheme="file", hospitals__csv=str(folder / "partition.csv"))


def sets(ids: Sequence[str] = IDS) -> list[list[str]]:
    """Two hospitals, six held out, two left out."""
    rows = [[id, "", "held-out"] for id in ids[:6]] + [[id, "north", "left-out"] for id in ids[6:8]]
    kinds = ["train", "train", "val", "test"]
    return rows + [[id, "north" if i % 2 else "south", kinds[i // 2 % 4]] for i, id in enumerate(ids[8:])]


def test_the_sets_are_as_the_file_says(tmp_path: Path) -> None:
    partition = partition_images(RECORDS, write(tmp_path, rows := sets()))
    wanted: dict[tuple[str, str], list[str]] = {}
    for id, hospital, kind in rows:
        if kind != "left-out":
            wanted.setdefault(("", "heldout") if kind == "held-out" else (hospital, kind), []).append(id)
    assert {key: list(ids) for key, ids in all_sets(partition).items()} == {k: sorted(v) for k, v in wanted.items()}


def test_without_sets_hospitals_are_as_the_file_says_and_the_rest_is_as_usual(tmp_path: Path) -> None:
    home = {id: f"h {i % 3}" for i, id in enumerate(IDS)}
    partition = partition_images(RECORDS, write(tmp_path, home.items(), "id,hospital"))
    assert partition.heldout == partition_images(RECORDS, make_config()).heldout
    for name, own in partition.hospitals.items():
        assert own.train and own.val and own.test
        assert {home[id] for id in images_at(own)} == {name}
    assert sorted(id for ids in all_sets(partition).values() for id in ids) == IDS


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            lambda: [*sets(), ["nobody", "north", "train"]],
            "names 1 ids that are not among the images to assign: 'nobody'",
        ),
        (lambda: sets()[:-2], r"does not name 2 of the 40 images: 'image0038', 'image0039'; .* left-out"),
        (lambda: [*sets(), sets()[-1]], "names 1 images more than once: 'image0039'"),
        (lambda: [*sets()[:-1], [IDS[-1], "north", "training"]], "line 41 .* must be one of train, val, .* 'training'"),
        (lambda: [*sets()[:-1], [IDS[-1], "../x", "train"]], "line 41 .* a hospital's name has"),
        (lambda: [*sets()[:-1], [IDS[-1], "east", "train"]], "gives east 1 images"),
        (lambda: [[i, h, "train" if s == "held-out" else s] for i, h, s in sets()], "line 2 .* a hospital's name has"),
        (
            lambda: [[i, h or "north", s.replace("held-out", "val")] for i, h, s in sets()],
            "no image of the set held-out",
        ),
        (lambda: [[i, h, "train" if h == "north" else s] for i, h, s in sets()], "gives north no image of the set val"),
        (lambda: [[i, "pooled" if h == "north" else h, s] for i, h, s in sets()], "cannot be called 'pooled'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, rows: Callable[[], list[list[str]]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        partition_images(RECORDS, write(tmp_path, rows()))


def test_no_file_none_that_can_be_read_and_none_with_the_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a file: --csv FILE"):
        partition_images(RECORDS, make_config(hospitals__scheme="file"))
    with pytest.raises(UsageError, match="cannot read the partition .*nothing.csv: No such file"):
        partition_images(RECORDS, make_config(hospitals__scheme="file", hospitals__csv=str(tmp_path / "nothing.csv")))
    with pytest.raises(UsageError, match="must have the columns id and hospital; it has name, site"):
        partition_images(RECORDS, write(tmp_path, [], "name,site"))


def test_near_duplicates_that_the_file_divides_are_said(tmp_path: Path) -> None:
    records = [record(i, 30 if i in (30, 31) else i, 0.1) for i in range(40)]
    config = write(tmp_path, sets())
    said = partition_notes(records, config, partition_images(records, config))
    assert said[0].startswith(
        "1 groups of near-duplicates or of one patient are divided between sets or hospitals: 'image0030' in south's"
    )
    assert said[1] == "2 images are in no set, and left out: 'image0006', 'image0007'"
