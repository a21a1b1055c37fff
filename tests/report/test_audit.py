"""The audit's page needs no other file and takes no name for markup; its table has every finding."""

import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpolyp.data.partition.partition import HospitalImages, Partition
from tests.command import exit_code

HOSTILE = "=1+<script>alert(1)<"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four noisy pairs, the last two of one image; the mask of the first, whose name is hostile, is empty."""
    root, random = tmp_path / "polyps", np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for row, name in enumerate((HOSTILE, "b", "c", "d")):
        image = random.integers(60, 200, (64, 64, 3), np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20 + row : 40] = 255 * (row > 0)
        for part, array in (("images", image), ("masks", mask)):
            (root / part / f"{name}.png").write_bytes(cv2.imencode(".png", array)[1].tobytes())
    (root / "images" / "d.png").write_bytes((root / "images" / "c.png").read_bytes())
    (root / "images" / "e.png").write_bytes(b"no picture")
    return root


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("COLUMNS", "80")
    return exit_code(monkeypatch, "data", "audit", *arguments)


def test_page_and_table_tell_what_was_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    Partition(("c",), {"oslo": HospitalImages(("b", "d"), (), ())}).save(tmp_path / "partition.json")
    out = tmp_path / "audit"
    given = ["--data", str(folder), "--partition", str(tmp_path / "partition.json"), "--out", str(out)]
    assert called(monkeypatch, *given) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "3 faults found in 4 images, and 1 finding to judge by eye." in told
    assert f"page: {out / 'audit.html'} (it shows images and masks: protect it like them)" in told

    rows = list(csv.DictReader((out / "audit.csv").open(newline="")))
    assert [(row["kind"], row["id"], row["other_id"], row["file"]) for row in rows] == [
        ("unusable", "", "", "images/e.png"),
        ("leak", "c", "d", ""),
        ("same-file", "c", "d", ""),
        ("empty", f"'{HOSTILE}", "", ""),
    ]
    assert rows[1]["said"].startswith("the held-out set, and training at oslo")

    page = (out / "audit.html").read_text()
    assert "<script" not in page and "=1+&lt;script&gt;alert(1)&lt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("data:image/jpeg;base64,") >= 3
    for said in ("Leaks between sets", "Empty masks", "Looked for, and not found", "there is no store of this folder"):
        assert said in page


def test_two_partitions_are_one_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--data", str(folder), "--out", str(folder / "x"), "--partition", "a.json", "--run", "b"]
    assert called(monkeypatch, *given) == 2
