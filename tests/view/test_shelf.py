"""What there is to look at is found where it lies, and no name leads anywhere else."""

import os
from pathlib import Path

import pytest

from fedpolyp.errors import UsageError
from fedpolyp.view.shelf import Shelf, shelf
from tests.view.places import begin, carry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    begin(tmp_path / "runs" / "one")
    for arm in ("pooled", "fedavg"):
        begin(tmp_path / "runs" / "both" / arm / "0", algorithm__name=arm)
    begin(tmp_path / "elsewhere")
    return tmp_path / "runs"


def test_runs_and_comparisons_are_told_apart_and_nothing_is_looked_for_inside_of_a_run(root: Path) -> None:
    begin(root / "one" / "state" / "inner")
    (root / "empty").mkdir()
    begin(root / ".hidden" / "run")
    found = {place.name: place.comparison for place in Shelf(root).places()}
    assert found == {"one": False, "both": True}
    (both,) = (place for place in Shelf(root).places() if place.comparison)
    assert [run.path.relative_to(root).as_posix() for run in both.runs] == ["both/pooled/0", "both/fedavg/0"]


def test_where_something_was_written_last_comes_first(root: Path) -> None:
    run = begin(root / "newer")
    for file in root.rglob("config.toml"):
        os.utime(file, (1000, 1000))
    carry(run, 1)
    assert [place.name for place in Shelf(root).places()] == ["newer", "both", "one"]


def test_a_name_is_one_of_those_that_are_there_or_none(root: Path) -> None:
    both = Shelf(root)
    assert both.find("one") and both.find("both") and both.find("both/fedavg/0")
    hostile = ["", ".", "..", "../elsewhere", "one/../../elsewhere", "/etc", str(root / "one"), "one/", "one\0", "ONE"]
    hostile += ["both/fedavg", "both/../one", "both/fedavg/0/../../../one", "one/checkpoints", "~", "%2e%2e/elsewhere"]
    assert [name for name in hostile if both.find(name)] == []


def test_one_that_is_named_is_alone_on_its_shelf(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    for named in (str(root / "both"), "runs/both", "both"):
        alone = shelf(named)
        assert [place.name for place in alone.places()] == ["both"] and alone.find("both/pooled/0")
        assert alone.find("one") is None
    assert [place.name for place in shelf("one").places()] == ["one"]
    assert [place.name for place in shelf("both/fedavg/0").places()] == ["0"]
    assert {place.name for place in shelf(str(root)).places()} == {"one", "both"}
    assert {place.name for place in shelf(None).places()} == {"one", "both"}
    with pytest.raises(
        UsageError, match=r"^there is no run or comparison 'none': neither none nor runs/none holds one$"
    ):
        shelf("none")


def test_links_that_lead_in_a_circle_and_names_that_are_no_text_end_nothing(root: Path) -> None:
    (root / "circle").symlink_to(root)
    begin(root / os.fsdecode(b"\xff\xfe"))
    begin(root / "Zürich <b>")
    names = {place.name for place in Shelf(root).places()}
    assert {"one", "both", "Zürich <b>"} <= names and all(name.encode() for name in names)


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert Shelf(tmp_path / "runs").places() == []
