"""Each layout is recognised by its folders and names alone, and gives ids, hospitals and groups."""

import os
from pathlib import Path

import pytest

from fedpolyp.data.ingest import ingest
from fedpolyp.data.pairs import Pair
from fedpolyp.data.sources import LAYOUTS, list_source
from fedpolyp.data.sources.clinicdb import LAST_FRAMES, sequence
from fedpolyp.errors import UsageError
from tests.picture_folders import encoded, picture, shape


def tree(folder: Path, *files: str) -> Path:
    """A folder of empty files."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def both(*files: str, images: str = "images", masks: str = "masks", before: str = "") -> list[str]:
    """The paths of these files in a folder of images and in one of masks."""
    return [f"{before}{part}/{file}" for file in files for part in (images, masks)]


def pairs(folder: Path) -> list[Pair]:
    listing = list_source(folder).listing
    assert listing.rejected == ()
    return list(listing.pairs)


def test_kvasir_seg(tmp_path: Path) -> None:
    found = pairs(tree(tmp_path / "Kvasir-SEG", *both("b.jpg", "a.jpg")))
    assert found == [Pair("a", "images/a.jpg", "masks/a.jpg"), Pair("b", "images/b.jpg", "masks/b.jpg")]


def test_segmented_images_of_hyper_kvasir_among_its_other_folders(tmp_path: Path) -> None:
    segmented = both("a.jpg", before="segmented-images/")
    found = pairs(tree(tmp_path, *segmented, "labeled-images/x/y.jpg", "segmented-images/bounding-boxes.json"))
    assert found == [Pair("a", "segmented-images/images/a.jpg", "segmented-images/masks/a.jpg")]


@pytest.mark.parametrize("inside", ["", "PNG/", "CVC-ClinicDB/PNG/"])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_clinicdb_with_its_sequences(tmp_path: Path, inside: str, suffix: str) -> None:
    names = [f"{number}{suffix}" for number in (1, 25, 26, 612)]
    found = pairs(tree(tmp_path, *both(*names, images="Original", masks="Ground Truth", before=inside)))
    assert found[0].mask == f"{inside}Ground Truth/1{suffix}"
    assert {pair.id: pair.groups for pair in found} == {
        "1": ("CVC-ClinicDB sequence 1",),
        "25": ("CVC-ClinicDB sequence 1",),
        "26": ("CVC-ClinicDB sequence 2",),
        "612": ("CVC-ClinicDB sequence 29",),
    }


def test_clinicdb_is_read_once_where_it_lies_in_two_formats(tmp_path: Path) -> None:
    files = [
        *both("1.png", images="Original", masks="Ground Truth", before="PNG/"),
        *both("1.tif", images="Original", masks="Ground Truth", before="TIF/"),
    ]
    assert [pair.image for pair in pairs(tree(tmp_path, *files))] == ["PNG/Original/1.png"]


def test_every_frame_of_clinicdb_is_in_one_of_29_sequences_and_nothing_else_is() -> None:
    of = [sequence(str(number)) for number in range(1, 613)]
    assert len(set(of)) == len(LAST_FRAMES) == 29 and "" not in of
    assert of == sorted(of, key=lambda name: int(name.rpartition(" ")[2]))
    assert [sequence(stem) for stem in ("0", "613", "a1", "-1", "²", "1.5")] == [""] * 6


def test_clinicdb_with_other_names_of_folders_is_known_by_its_own(tmp_path: Path) -> None:
    assert pairs(tree(tmp_path / "CVC-ClinicDB", *both("9.png")))[0].groups == ("CVC-ClinicDB sequence 1",)
    assert pairs(tree(tmp_path / "clinic", *both("9.png")))[0].groups == ()


def test_colondb_without_its_other_annotations(tmp_path: Path) -> None:
    names = [f"{before}{number}.bmp" for number in (1, 2) for before in ("", "p", "s", "c")]
    assert pairs(tree(tmp_path / "CVC-ColonDB", *names)) == [Pair("1", "1.bmp", "p1.bmp"), Pair("2", "2.bmp", "p2.bmp")]


def test_cvc_300_and_its_companion(tmp_path: Path) -> None:
    kinds = ("bbdd", "gtpolyp", "gtlumen", "gtspecular", "gtvoid")
    files = [f"{name}/{kind}/30.bmp" for name in ("CVC-300", "CVC-612") for kind in kinds]
    assert pairs(tree(tmp_path, *files)) == [
        Pair("CVC-300/30", "CVC-300/bbdd/30.bmp", "CVC-300/gtpolyp/30.bmp", "CVC-300"),
        Pair(
            *("CVC-612/30", "CVC-612/bbdd/30.bmp", "CVC-612/gtpolyp/30.bmp", "CVC-612"),
            ("CVC-ClinicDB sequence 2",),
        ),
    ]
    assert [pair.id for pair in pairs(tmp_path / "CVC-300")] == ["30"]


def test_etis(tmp_path: Path) -> None:
    files = ("ETIS-LaribPolypDB/1.tif", "Ground Truth/p1.tif")
    assert pairs(tree(tmp_path, *files)) == [Pair("1", *files)]


@pytest.mark.parametrize("twice", [False, True])
def test_pranet_knows_what_its_images_were_taken_from(tmp_path: Path, twice: bool) -> None:
    train, test = (f"{name}/{name}/" if twice else f"{name}/" for name in ("TrainDataset", "TestDataset"))
    files = both("7.png", "cju0.png", images="image", before=train)
    for name in ("CVC-300", "CVC-ClinicDB", "Kvasir"):
        files += both("8.png", before=f"{test}{name}/")
    found = {pair.id: (pair.center, pair.groups) for pair in pairs(tree(tmp_path, *files))}
    of_clinicdb = ("CVC-ClinicDB", ("CVC-ClinicDB sequence 1",))
    assert found == {
        "test/CVC-300/8": ("CVC-300", ()),
        "test/CVC-ClinicDB/8": of_clinicdb,
        "test/Kvasir/8": ("Kvasir", ()),
        "train/7": of_clinicdb,
        "train/cju0": ("Kvasir", ()),
    }
    assert len(pairs(tmp_path / test)) == 3 and len(pairs(tmp_path / train)) == 2


def test_polypgen_with_its_centers_its_sequences_and_frames_without_a_polyp(tmp_path: Path) -> None:
    files = ["data_C1/images_C1/1.jpg", "data_C1/masks_C1/1_mask.jpg", "data_C1/bbox_C1/1_mask.txt"]
    files += ["data_C3/images_C3/C3_2_.jpg", "data_C3/masks_C3/C3_2_mask.jpg", "imagesAll_positive/1.jpg"]
    positive, negative = "sequenceData/positive/seq1", "sequenceData/negativeOnly/seq1_neg"
    files += [f"{positive}/images_seq1/C2_5.jpg", f"{positive}/masks_seq1/C2_5_mask.jpg", f"{negative}/6.jpg"]
    found = pairs(tree(tmp_path / "PolypGen2021_MultiCenterData_v3", *files))
    assert [(pair.id, pair.center, pair.groups) for pair in found] == [
        ("C1/1", "C1", ()),
        ("C3/C3_2_", "C3", ()),
        ("seq1/C2_5", "C2", ("PolypGen seq1",)),
        ("seq1_neg/6", "sequences", ("PolypGen seq1_neg",)),
    ]
    assert [pair.mask for pair in found[1:]] == [
        "data_C3/masks_C3/C3_2_mask.jpg",
        f"{positive}/masks_seq1/C2_5_mask.jpg",
        "",
    ]


@pytest.mark.parametrize("twice", [False, True])
def test_bkai(tmp_path: Path, twice: bool) -> None:
    images, masks = (f"{name}/{name}" if twice else name for name in ("train", "train_gt"))
    found = pairs(tree(tmp_path, *both("a.jpeg", images=images, masks=masks), "test/b.jpeg"))
    assert found == [Pair("a", f"{images}/a.jpeg", f"{masks}/a.jpeg")]


def test_a_folder_for_each_hospital_with_or_without_modalities(tmp_path: Path) -> None:
    files = [*both("1.jpg", before="BKAI/WLI/"), *both("1.jpg", before="BKAI/NBI/"), *both("1.jpg", before="Simula/")]
    found = pairs(tree(tmp_path / "PolypDB" / "PolypDB_center_wise", *files))
    assert [(pair.id, pair.center) for pair in found] == [
        ("BKAI/NBI/1", "BKAI"),
        ("BKAI/WLI/1", "BKAI"),
        ("Simula/1", "Simula"),
    ]
    tree(tmp_path / "PolypDB" / "PolypDB_modality_wise", *both("1.jpg", before="WLI/"))
    assert [pair.id for pair in pairs(tmp_path / "PolypDB")] == [pair.id for pair in found]


def test_any_two_folders_can_be_given(tmp_path: Path) -> None:
    tree(tmp_path, *both("1.jpg", "x/2.jpg", images="frames: all", masks="labels"))
    listed = list_source(f"{tmp_path}/frames: all:{tmp_path}/labels")
    assert listed.root == tmp_path and listed.listing.rejected == ()
    assert [pair.image for pair in listed.listing.pairs] == ["frames: all/1.jpg", "frames: all/x/2.jpg"]


def test_folders_around_a_layout_and_hidden_ones_are_no_hindrance(tmp_path: Path) -> None:
    tree(tmp_path, *both("a.jpg", before="v1/Kvasir-SEG/"), "__MACOSX/v1/._a.jpg", ".git/HEAD", "README.txt")
    assert [pair.id for pair in pairs(tmp_path)] == ["a"]


def test_what_is_not_recognised_is_told_with_all_that_was_looked_for_and_what_was_found(tmp_path: Path) -> None:
    tree(tmp_path, "pictures/a.png", "labels/a.png", "notes.txt")
    with pytest.raises(UsageError) as error:
        list_source(tmp_path)
    said = str(error.value)
    assert said.endswith("found labels, notes.txt, pictures") and "\n" not in said
    assert all(layout.NAME in said and layout.LOOKS_FOR in said for layout in LAYOUTS)


def test_links_in_circles_and_to_folders_read_already_spoil_only_themselves(tmp_path: Path) -> None:
    tree(tmp_path, *both("a.jpg", "more/b.jpg"))
    (tmp_path / "images" / "circle").symlink_to(tmp_path)
    (tmp_path / "images" / "more" / "itself").symlink_to("itself")
    (tmp_path / "images" / "z").symlink_to("more")
    listing = list_source(tmp_path).listing
    assert [pair.id for pair in listing.pairs] == ["a", "more/b"]
    assert [(one.file, one.reason[:30]) for one in listing.rejected] == [
        ("images/circle/", "a link to a folder that is rea"),
        ("images/z/", "a link to a folder that is rea"),
        ("images/more/itself", "not one of .bmp, .jpeg, .jpg, "),
    ]


def test_a_subfolder_nobody_may_read_spoils_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *both("a.jpg", "more/b.jpg"))
    scandir = os.scandir

    def refused(folder: Path) -> object:
        if str(folder).rstrip("/").endswith("images/more"):  # not by its mode: root may read anything
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    listing = list_source(tmp_path).listing
    assert [pair.id for pair in listing.pairs] == ["a"]
    assert ("images/more/", "a folder that cannot be read: Permission denied") in [
        (one.file, one.reason) for one in listing.rejected
    ]


def test_a_set_of_several_hospitals_becomes_one_store_whose_records_say_which(tmp_path: Path) -> None:
    folder = tmp_path / "gen"
    contents = {
        "data_C1/images_C1/1.png": encoded(picture(1)),
        "data_C1/masks_C1/1_mask.png": encoded(255 * shape(1)),
        "data_C2/images_C2/1.png": encoded(picture(2)),
        "data_C2/masks_C2/1_mask.png": encoded(255 * shape(2)),
        "sequenceData/negativeOnly/seq1_neg/1.png": encoded(picture(3)),
        "sequenceData/negativeOnly/seq1_neg/2.png": encoded(picture(4)),
    }
    for file, content in contents.items():
        tree(folder, file)
        (folder / file).write_bytes(content)
    store = ingest(folder, 32, tmp_path / "stores")
    assert [(record.id, record.source, record.group) for record in store.records] == [
        ("C1/1", "gen-C1", 0),
        ("C2/1", "gen-C2", 1),
        ("seq1_neg/1", "gen-sequences", 2),
        ("seq1_neg/2", "gen-sequences", 2),
    ]
    assert [record.lesion_fraction > 0 for record in store.records] == [True, True, False, False]
    assert not store.masks[2:].any() and store.masks[:2].any(axis=(1, 2)).all()
    said = "sequenceData/negativeOnly/seq1_neg/1.png"
    assert f"2 of 4 are frames without a polyp (first: {said})" in store.report.notes
    assert "2 of 4 images are of 1 known patients, procedures or videos" in store.report.notes
