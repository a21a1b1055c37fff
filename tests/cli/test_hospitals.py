"""`fedpolyp hospitals`: a partition is shown and saved before anything is trained, and a run begins with it."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from fedpolyp.data.partition.finding import SCHEMES
from fedpolyp.data.partition.partition import Partition
from fedpolyp.runs import RunFolder
from tests.command import exit_code

SMALL = ["--image-size", "32", "--phantom-images", "60", "--hospitals", "3"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, *arguments)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "file"])
def test_each_scheme_is_shown_drawn_and_saved(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "hospitals", *SMALL, "--scheme", scheme, "--out", str(tmp_path / "made")) == 0
    said = capsys.readouterr().out
    partition = Partition.load(tmp_path / "made" / "partition.json")
    assert all(name in said for name in partition.hospitals)
    assert "how far a hospital is from all together" in said and "by chance" in said
    assert max(map(len, said.split("how far")[0].splitlines())) <= 80 or scheme in ("acquisition", "labels", "source")
    with (tmp_path / "made" / "hospitals.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["hospital"] for row in rows] == [*partition.hospitals, "held-out"]
    assert sum(int(row["images"]) for row in rows) == 60
    picture = cv2.imread(str(tmp_path / "made" / "hospitals.png"))
    assert picture is not None and picture.shape[0] > 4 * 112


def test_a_partition_in_a_file_is_used_again_and_a_run_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, saved = tmp_path / "first", str(tmp_path / "first" / "partition.json")
    labels = ["--scheme", "labels", "--poor", "1", "--missing", "0.5"]
    assert run(monkeypatch, "hospitals", *SMALL, *labels, "--out", str(first)) == 0
    images = SMALL[:4]
    assert run(monkeypatch, "hospitals", *images, "--partition", saved, "--out", str(tmp_path / "second")) == 0
    assert Partition.load(tmp_path / "second" / "partition.json") == Partition.load(Path(saved))
    capsys.readouterr()
    assert run(monkeypatch, "simulate", "--phantom-images", "50", "--image-size", "32", "--partition", saved) == 2
    assert "does not fit these 50 images: 10 of the 60 that it names are not among them" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_begins_with_a_saved_partition_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["--scheme", "labels", "--poor", "1", "--missing", "0.5"]
    saved = str(tmp_path / "partition.json")
    assert run(monkeypatch, "hospitals", *SMALL, *labels, "--out", str(tmp_path)) == 0
    images = SMALL[:4]
    training = ["--algorithm", "pooled", "--rounds", "1", "--base-filters", "1", "--out", str(tmp_path / "run")]
    assert run(monkeypatch, "simulate", *images, "--partition", saved, *training, "--quiet") == 0
    begun = RunFolder(tmp_path / "run")
    assert begun.partition() == Partition.load(Path(saved))
    assert begun.config().hospitals.count == 3 and begun.config().hospitals.partition_sha256


def test_a_run_folder_and_a_file_are_no_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "hospitals", *SMALL, "--out", str(tmp_path / "file")) == 2
    assert "--out must be a folder" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("")
    (tmp_path / "run" / "partition.json").write_text("{}")
    assert run(monkeypatch, "hospitals", *SMALL, "--out", str(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "partition.json").read_text() == "{}"


def test_neither_tensorflow_nor_ray_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from fedpolyp import cli\n"
        f"sys.argv = ['fedpolyp', 'hospitals', *{SMALL!r}, '--out', {str(tmp_path / 'made')!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'tensorflow', 'keras', 'ray', 'flwr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
