"""A CSV of image, mask, patient and hospital: what it says is kept, what it lacks is told."""

from pathlib import Path

import pytest

from fedpolyp.data.ingest import ingest
from fedpolyp.data.pairs import Pair, spelling
from fedpolyp.data.sources import list_source
from fedpolyp.errors import UsageError
from fedpolyp.privacy.units import fault_of_patients
from tests.data.sources.test_layouts import tree
from tests.picture_folders import write_pair


def listed(folder: Path, *lines: str) -> Path:
    tree(folder, "a.png", "a_mask.png", "sub/b.png", "sub/b_mask.png", "c.png")
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder / "list.csv"


def test_patients_and_hospitals_are_read(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        "Image,Mask,Patient,Hospital",
        "a.png,a_mask.png,1,oslo",
        "sub/b.png,sub/b_mask.png,1,bergen",
        f"{tmp_path}/c.png,none,2,oslo",
    )
    listing = list_source(file).listing
    assert listing.rejected == ()
    assert {pair.id: (pair.mask, pair.center) for pair in listing.pairs} == {
        "a": ("a_mask.png", "oslo"),
        f"{tmp_path}/c"[1:]: ("", "oslo"),
        "sub/b": ("sub/b_mask.png", "bergen"),
    }
    groups = [pair.groups for pair in listing.pairs]
    assert len(set(groups)) == 3, "patient 1 of two hospitals is two people"


def test_a_column_called_group_reaches_across_hospitals_and_ids_may_be_given(tmp_path: Path) -> None:
    file = listed(
        tmp_path, "id;image;mask;group;hospital", "x;a.png;a_mask.png;7;oslo", "y;sub/b.png;sub/b_mask.png;7;bergen"
    )
    assert list_source(file).listing.pairs == (
        Pair("x", "a.png", "a_mask.png", "oslo", ("7",)),
        Pair("y", "sub/b.png", "sub/b_mask.png", "bergen", ("7",)),
    )


def test_a_line_that_cannot_be_used_is_told_and_stops_no_other(tmp_path: Path) -> None:
    file = listed(
        tmp_path,
        "image,mask,age",
        "a.png,a_mask.png,40",
        "",
        "c.png,,50",
        ",a_mask.png",
        "gone.png,a_mask.png",
        "a.png,a_mask.png,41",
        "notes.txt,a_mask.png",
        "../../x.png,none",
    )
    listing = list_source(file).listing
    assert [pair.id for pair in listing.pairs] == ["a"]
    assert {one.file: one.reason for one in listing.rejected if one.file != "../../x.png"} == {
        "c.png": "line 4 names no mask ('none' says that there is no polyp)",
        "line 5": "line 5 names no image",
        "gone.png": "cannot be read: No such file or directory",
        "a.png": "its id 'a' is that of a.png",
        "notes.txt": "not one of .bmp, .jpeg, .jpg, .png, .tif, .tiff",
    }
    assert "columns of list.csv that are not read: age" in listing.notes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("image,patient", "has no column mask: looked for image, mask .*; found image, patient"),
        ("", "has no column image and no column mask: .*; found nothing"),
        ("image,mask,patient,video", "has columns patient and video: only one of them may say which images stay"),
    ],
)
def test_columns_that_do_not_fit_are_told(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list_source(listed(tmp_path, line))


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = listed(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="as a CSV: not text in UTF-8"):
        list_source(file)


def test_images_of_a_patient_are_one_group_in_the_store(tmp_path: Path) -> None:
    for seed, stem in enumerate("abcd"):
        write_pair(tmp_path, stem, seed=seed)
    rows = [
        f"images/{stem}.png,masks/{stem}.png,{patient}" for stem, patient in zip("abcd", (1, 2, 1, ""), strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,mask,patient", *rows]))
    store = ingest(tmp_path / "list.csv", 32, tmp_path / "stores")
    assert [(record.id, record.group) for record in store.records] == [
        ("images/a", 0),
        ("images/b", 1),
        ("images/c", 0),
        ("images/d", 3),
    ]
    assert store.records[0].source == "list"
    assert [record.patient for record in store.records] == [0, 1, 0, -1]


def test_patients_whose_names_are_written_alike_stay_together_and_are_not_protected_one_by_one(tmp_path: Path) -> None:
    """As two units one person would have too little protection, and as one unit two persons would."""
    names = ("P1", " P1 ", "p1", "\uff30\uff11", "P\u00a01", "P\u200b1", "P2")
    for seed, stem in enumerate("abcdefg"):
        write_pair(tmp_path, stem, seed=seed)
    rows = [f"images/{stem}.png,masks/{stem}.png,{name}" for stem, name in zip("abcdefg", names, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["image,mask,patient", *rows]), encoding="utf-8")
    store = ingest(tmp_path / "list.csv", 32, tmp_path / "stores")
    assert [record.group for record in store.records] == [0] * 6 + [6]
    assert [record.patient for record in store.records] == [0, 0, 2, 3, 4, 5, 6]
    assert fault_of_patients(store.records).startswith("1 group has training images of several patients")
    assert not fault_of_patients([store.records[row] for row in (0, 1, 6)])
    (note,) = [note for note in store.report.notes if "patients whose names" in note]
    assert "maybe of one person: 4 (first: images/c)" in note


def test_what_group_by_finds_is_compared_without_case(tmp_path: Path) -> None:
    for seed, stem in enumerate(("Anna-1", "anna-2", "berta-1")):
        write_pair(tmp_path, stem, seed=seed)
    store = ingest(tmp_path, 32, tmp_path / "stores", group_by="^[A-Za-z]+")
    assert [(record.group, record.patient) for record in store.records] == [(0, 0), (0, 1), (2, 2)]


@pytest.mark.parametrize("column", ["group", "procedure", "video"])
def test_only_a_column_called_patient_names_patients(column: str, tmp_path: Path) -> None:
    """A patient may have two procedures."""
    write_pair(tmp_path, "a", seed=0)
    (tmp_path / "list.csv").write_text(f"image,mask,{column}\nimages/a.png,masks/a.png,1\n")
    (pair,) = list_source(tmp_path / "list.csv").listing.pairs
    assert pair.groups and not pair.patient


@pytest.mark.parametrize("nobody", ["unknown", "Unknown", "N/A", "N / A", "nan", "-", "?", "\uff1f"])
def test_a_patient_who_is_called_unknown_is_not_known(nobody: str, tmp_path: Path) -> None:
    """Such images may be of many patients, whom one unit would not protect; they still stay together."""
    write_pair(tmp_path, "a", seed=0)
    (tmp_path / "list.csv").write_text(f"image,mask,patient\nimages/a.png,masks/a.png,{nobody}\n", encoding="utf-8")
    (pair,) = list_source(tmp_path / "list.csv").listing.pairs
    assert pair.groups == (f" patient {spelling(nobody)}",) and not pair.patient
