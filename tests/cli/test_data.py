from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.command import exit_code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 pairs of two sizes, of which two frames are the same picture; 23 images without a mask."""
    root, random = tmp_path / "polyps", np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(30):
        shape = (40, 48) if number < 20 else (60, 80)
        small = random.integers(0, 255, (6, 6, 3), np.uint8)
        image = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
        mask = np.zeros(shape, np.uint8)
        mask[: 10 + number // 2, : shape[1] // 2] = 255
        cv2.imwrite(str(root / "images" / f"p{number:02d}.png"), image)
        cv2.imwrite(str(root / "masks" / f"p{number:02d}.png"), mask)
    for number in range(23):
        (root / "images" / f"x[b]{number:02d}.png").touch()
    (root / "images" / "p01.png").write_bytes((root / "images" / "p00.png").read_bytes())
    return root


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("COLUMNS", "80")
    return exit_code(monkeypatch, "data", *arguments)


def test_ingest_tells_counts_reasons_duplicates_and_where_the_store_lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "ingest", str(folder), "--image-size", "32") == 0
    told = capsys.readouterr().out
    assert "30 pairs ingested at 32x32 pixels, 23 left out" in told
    assert "images/x[b]00.png  no mask of this stem in masks/" in told
    assert told.count("no mask of this stem") == 20
    assert "kept together: 2 images in 1 group (near-duplicates;" in told
    table = Path(next(line for line in told.splitlines() if line.startswith("and 3 more")).split(" in ")[1])
    assert "images/x[b]22.png" in table.read_text()
    assert f"store: {table.parent}" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "{}/nowhere"], "there is no {}/nowhere; the source must be a folder with"),
        (["ingest", "{}", "--image-size", "33"], "data.image_size must be a multiple of 16; got 33"),
        (["ingest", "{}"], "{} has no images/ and no masks/"),
        (["show", "--data", "{}/nowhere"], "there is no {}/nowhere; the source must be a folder with"),
        (["show", "--out", "{}/samples.jpg"], "--out must name a .png file; got {}/samples.jpg"),
        (["show", "--image-size", "32", "--phantom-images", "20", "--out", "{}/taken.png"], "cannot write {}/taken"),
        (["show", "--image-size", "32", "--phantom-images", "20", "--hospitals", "9"], "hospitals"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken.png").mkdir()
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *(word.format(tmp_path) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedpolyp: ") and error.count("\n") == 1
    assert said.format(tmp_path) in error


def test_show_describes_a_folder_and_the_partition(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made on the way" / "s.png"
    options = ["--image-size", "32", "--hospitals", "2", "--scheme", "lesion-size", "--skew", "1", "--out", str(out)]
    assert called(monkeypatch, "show", "--data", str(folder), *options) == 0
    told = capsys.readouterr().out
    assert "30 images, 23 pairs left out" in told
    assert "48x40 to 80x60 pixels, 2 different ones; most common 48x40 (20 images)" in told
    assert "kept together: 2 images in 1 group (near-duplicates;" in told
    heldout = int(told.split("partitioned by lesion-size; ")[1].split()[0])
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.strip()}
    counts = [sum(map(int, rows[name][:3])) for name in ("hospital-1", "hospital-2")]
    assert sum(counts) + heldout == 30
    assert float(rows["hospital-1"][3].rstrip("%")) < float(rows["hospital-2"][3].rstrip("%"))
    assert out.read_bytes().startswith(b"\x89PNG")


def test_show_names_the_smallest_and_the_largest_lesion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fedpolyp.config import load
    from fedpolyp.data.source import open_source

    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "show", "--image-size", "32", "--phantom-images", "20", "--hospitals", "2") == 0
    told = capsys.readouterr().out
    store = open_source(load(overrides={"data.image_size": 32, "data.phantom_images": 20}).data, 0)
    areas = {record.id: record.lesion_fraction for record in store.records}
    smallest, largest = min(areas, key=areas.__getitem__), max(areas, key=areas.__getitem__)
    assert f"smallest {areas[smallest]:.2%} ({smallest})" in told
    assert f"largest {areas[largest]:.1%} ({largest})" in told
    assert f"{np.median(list(areas.values())):.1%}" in told
    assert "kept together: none" in told
    assert (tmp_path / "samples.png").exists()


def test_stores_are_listed_and_pruned_and_called_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fedpolyp.config import load
    from fedpolyp.data.source import open_source

    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    path = open_source(load(overrides={"data.image_size": 32, "data.phantom_images": 20}).data, 0).path
    assert called(monkeypatch, "stores") == 0
    told = capsys.readouterr().out
    assert path.name in told and "copies of images and masks" in told
    assert called(monkeypatch, "stores", "--prune", "1") == 0
    assert path.exists() and "1 store, " in capsys.readouterr().out
    assert called(monkeypatch, "stores", "--prune", "0") == 0
    assert not path.exists() and "removed 1 store, " in capsys.readouterr().out
    assert called(monkeypatch, "stores") == 0
    assert f"0 stores, 0.0 MB of copies of images and masks, in {tmp_path / 'stores'}" in capsys.readouterr().out


def test_show_takes_the_folder_as_ingest_does_or_as_an_option(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ("--image-size", "32", "--hospitals", "2", "--out", str(tmp_path / "samples.png"))
    assert called(monkeypatch, "show", "--data", str(folder), *out) == 0
    told = capsys.readouterr().out
    assert called(monkeypatch, "show", str(folder), *out) == 0
    assert capsys.readouterr().out == told
    assert called(monkeypatch, "show", str(folder), "--data", "elsewhere", *out) == 2
    assert "is given twice" in capsys.readouterr().err


def test_several_sources_are_ingested_and_shown_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.picture_folders import encoded, picture, shape, write_pair

    for number in range(8):
        mask = encoded(255 * shape(number) * (number > 0))
        write_pair(tmp_path / "clinic", f"v{number // 2}_{number}", encoded(picture(number)), mask)
    monkeypatch.chdir(tmp_path)
    places = ("polyps=polyps", "clinic=clinic")
    options = ("--image-size", "32", "--group-by", "^(v[0-9])_")
    assert called(monkeypatch, "ingest", *places, *options) == 0
    told = capsys.readouterr().out
    assert "38 pairs ingested at 32x32 pixels, 23 left out" in told
    assert "polyps/images/x[b]00.png" in told
    assert "clinic: 1 of 8 are frames without a polyp (first: masks/v0_0.png)" in told
    assert "clinic: group_by finds a match in 8 of 8 names" in told
    assert "kept together: 10 images in 5 groups (near-duplicates; one patient, procedure or video)" in told

    data = [word for place in places for word in ("--data", place)]
    assert called(monkeypatch, "show", *data, *options, "--hospitals", "2", "--out", "s.png") == 0
    told = capsys.readouterr().out
    assert "38 images, 23 pairs left out" in told and "frames without a polyp: 1 of 38" in told
    assert "kept together: 10 images in 5 groups" in told and (tmp_path / "s.png").exists()
    assert called(monkeypatch, "show", "--data", "polyps", "--data", "clinic", "--out", "s.png") == 2
    assert "several sources need a name each, as in kvasir=FOLDER" in capsys.readouterr().err
