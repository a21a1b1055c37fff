"""Each fault that is planted in a clean folder is found and called what it is; in the clean folder there is none."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data import phantom
from fedpolyp.data.audit.audit import Audit, audit
from fedpolyp.data.audit.findings import Kind, Weight
from fedpolyp.data.ingest import ingest, ingest_all
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError

COUNT, SIDE = 20, 256  # from as many masks on, something is said of a folder's edges
FEW = 6
Image = NDArray[np.uint8]


@dataclass
class Made:
    """A folder of phantom frames; `images` and `masks` (0 and 255) are written when `write` is called."""

    folder: Path
    images: list[Image]
    masks: list[Image]

    def write(self) -> Path:
        for part, arrays in (("images", self.images), ("masks", self.masks)):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
            for row, array in enumerate(arrays):
                shown = array[..., ::-1] if array.ndim == 3 else array
                cv2.imwrite(str(self.folder / part / f"f{row:02d}.png"), shown, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return self.folder

    def audit(self, partition: Partition | None = None) -> Audit:
        return audit(self.write(), partition, stores=self.folder.parent / "stores")


@pytest.fixture(scope="module")
def frames() -> tuple[Image, Image]:
    """Frames of one look that has a cut border and no box."""
    seed = next(seed for seed in range(50) if phantom.sample_looks(1, seed)[0].box == (0.0, 0.0))
    images, masks, _ = phantom.draw(COUNT, SIDE, 1, seed)
    return images, 255 * masks


@pytest.fixture
def made(frames: tuple[Image, Image], tmp_path: Path) -> Made:
    return Made(tmp_path / "polyps", [one.copy() for one in frames[0][:FEW]], [one.copy() for one in frames[1][:FEW]])


@pytest.fixture
def many(frames: tuple[Image, Image], tmp_path: Path) -> Made:
    return Made(tmp_path / "polyps", [one.copy() for one in frames[0]], [one.copy() for one in frames[1]])


def found(result: Audit) -> set[tuple[str, tuple[str, ...]]]:
    return {(finding.kind.label, finding.ids) for finding in result.findings}


def test_in_a_clean_folder_there_is_nothing(many: Made) -> None:
    result = many.audit()
    assert result.findings == () and result.refusal == ""
    assert len(result.seen) == len(result.lesions) == COUNT
    assert result.edge is not None and result.edge > 1.2


def test_each_planted_fault_is_found_and_nothing_else(many: Made) -> None:
    images, masks = many.images, many.masks
    masks[1] = np.zeros_like(masks[1])
    masks[2] = np.full_like(masks[2], 255)
    masks[3] = np.asarray(cv2.cvtColor(images[3], cv2.COLOR_RGB2GRAY))
    masks[4] = 255 - masks[4]
    masks[5] = np.asarray(cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (10, 10), 30, 255, -1))
    images[6] = images[6] // 9
    cv2.putText(images[7], "12/03/2014", (60, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    images[8] = np.maximum(images[8], 60)
    images[8][170:, :80] = 0  # a black box
    images[9][-70:, :70] = (20, 150, 130)  # a scope's position
    result = many.audit()
    lesions_under_boxes = {("beyond", ("f08",))}
    assert found(result) - lesions_under_boxes == {
        *{("empty", ("f01",)), ("full", ("f02",)), ("grey", ("f03",)), ("inverted", ("f04",)), ("beyond", ("f05",))},
        *{("dark", ("f06",)), ("text", ("f07",)), ("inset", ("f08",)), ("inset", ("f09",))},
    }


def test_an_image_of_another_size_and_another_shape_is_unusual(made: Made) -> None:
    for row, size in ((3, (600, 600)), (4, (256, 100)), (5, (300, 280))):
        made.images[row], made.masks[row] = (
            np.asarray(cv2.resize(array[row], size, interpolation=cv2.INTER_NEAREST), np.uint8)
            for array in (made.images, made.masks)
        )
    assert found(made.audit()) == {("size", ("f03",)), ("size", ("f04",))}


def test_a_copied_file_and_a_moved_and_turned_frame_are_found_as_what_they_are(made: Made) -> None:
    made.images[1] = made.images[3].copy()
    turn = cv2.getRotationMatrix2D((128, 128), 8, 1.1)
    turn[:, 2] += 6
    made.images[2] = np.asarray(cv2.warpAffine(made.images[5], turn, (SIDE, SIDE)))
    result = made.audit()
    assert {("same-file", ("f01", "f03")), ("same-scene", ("f02", "f05"))} <= found(result)
    assert {kind for kind, _ in found(result)} <= {"same-file", "same-scene", "beyond", "inset"}
    said = {finding.kind: finding.said for finding in result.findings}
    assert said[Kind.SAME_FILE] == "the images have the same bytes, but their masks differ"


def test_a_mask_that_was_copied_to_another_image_is_found_and_that_of_a_copied_image_is_not(made: Made) -> None:
    made.masks[2] = made.masks[4].copy()
    made.images[1], made.masks[1] = made.images[3].copy(), made.masks[3].copy()
    result = made.audit()
    assert {ids for kind, ids in found(result) if kind == "same-mask"} == {("f02", "f04")}
    assert ("same-file", ("f01", "f03")) in found(result)


def test_empty_and_full_masks_are_not_copies_of_one_another(made: Made) -> None:
    for row in range(4):
        made.masks[row][:] = 255 * (row % 2)
    assert "same-mask" not in {kind for kind, _ in found(made.audit())}


def test_what_is_the_same_in_two_sets_is_a_leak_and_in_one_it_is_none(made: Made) -> None:
    made.images[1], made.masks[1] = made.images[3].copy(), made.masks[3].copy()
    made.images[2], made.masks[2] = made.images[5].copy(), made.masks[5].copy()
    made.images[2][128, 128] ^= 1
    ids = [f"f{row:02d}" for row in range(FEW)]

    def held_out(heldout: list[str]) -> Partition:
        rest = [id for id in ids if id not in heldout]
        return Partition(tuple(heldout), {"oslo": HospitalImages(tuple(rest[:-2]), (rest[-2],), (rest[-1],))})

    leaks = [finding for finding in made.audit(held_out(["f03", "f02"])).findings if finding.kind is Kind.LEAK]
    assert [finding.ids for finding in leaks] == [("f01", "f03"), ("f02", "f05")]
    assert leaks[0].said.startswith("training at oslo, and the held-out set")
    assert "their masks" in leaks[0].said
    together = made.audit(held_out(["f01", "f02", "f03", "f05"]))
    assert together.sets == 4 and not [one for one in together.findings if one.kind is Kind.LEAK]


def test_a_patient_in_two_sets_is_a_leak(made: Made, tmp_path: Path) -> None:
    made.write()
    rows = [
        f"polyps/images/f{row:02d}.png,polyps/masks/f{row:02d}.png,{'ann' if row < 3 else row},f{row:02d}"
        for row in range(FEW)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,mask,patient,id", *rows]))
    partition = Partition(("f00",), {"oslo": HospitalImages(("f01", "f03"), ("f02",), ("f04", "f05"))})
    leaks = audit(tmp_path / "list.csv", partition, stores=tmp_path / "stores").findings
    assert [(finding.kind, finding.ids) for finding in leaks] == [
        (Kind.LEAK, pair) for pair in (("f00", "f01"), ("f00", "f02"), ("f01", "f02"))
    ]
    assert (
        leaks[0].said.startswith("the held-out set, and training at oslo (both have images of ")
        and "ann" in leaks[0].said
    )


def test_a_partition_of_other_images_is_refused(made: Made) -> None:
    said = (
        "none of the partition's images is in the folder; its first is 'kvasir/f00', the folder's 'f00'; .*NAME=FOLDER"
    )
    with pytest.raises(UsageError, match=said):
        made.audit(Partition(("kvasir/f00",), {}))


def test_of_a_run_of_several_sources_only_the_named_ones_images_count(made: Made, tmp_path: Path) -> None:
    made.images[1] = made.images[3].copy()
    mine, other = ("kvasir/f01", "kvasir/f03"), ("clinicdb/f01", "clinicdb/f03")
    stores = made.folder.parent / "stores"
    ingest_all({"kvasir": made.write()}, 32, stores)
    made.images[5][128, 128] ^= 1
    for first, second, leaks in ((mine, other, 0), ((mine[0], other[1]), (mine[1], other[0]), 1)):
        partition = Partition(tuple(sorted(first)), {"oslo": HospitalImages(tuple(sorted(second)), (), ())})
        result = audit(made.write(), partition, stores=stores, name="kvasir")
        assert [finding.kind for finding in result.findings].count(Kind.LEAK) == leaks
        assert ("changed", ("f05",)) in found(result)


def test_an_archive_is_audited_like_its_folder(made: Made, tmp_path: Path) -> None:
    made.masks[2] = np.zeros_like(made.masks[2])
    packed = shutil.make_archive(str(tmp_path / "polyps"), "zip", made.write())
    result = audit(packed, stores=tmp_path / "stores")
    assert found(result) == {("empty", ("f02",))} and result.show("f02")[1].sum() == 0


def test_masks_of_other_images_are_found_as_a_whole_by_the_edges(many: Made) -> None:
    many.masks = many.masks[5:] + many.masks[:5]
    result = many.audit()
    assert result.edge is not None and result.edge < 1.2
    assert ("edges", ()) in found(result)


def test_the_mask_that_fits_least_is_the_first_to_judge_by_eye(made: Made) -> None:
    made.masks[3] = np.roll(made.masks[3], 40, axis=1)
    made.masks[3][:, :40] = 0
    assert "f03" in made.audit().worst_edges()[:2]


def test_a_changed_byte_is_found_against_the_store(made: Made) -> None:
    stores = made.folder.parent / "stores"
    store = ingest(made.write(), 32, stores)
    made.images[3][128, 128] ^= 1
    made.masks[5][0, 0] = 255
    result = made.audit()
    assert found(result) == {("changed", ("f03",)), ("changed", ("f05",))}
    assert result.compared_with == store.path.name
    made.folder = made.folder.with_name("polyp")  # another folder's store is no measure, though it has the same ids
    assert made.audit().findings == ()


def test_a_folder_that_ingest_refuses_is_audited_all_the_same(made: Made) -> None:
    made.masks = [255 - mask for mask in made.masks]
    result = made.audit()
    assert result.ingest is None and "more than half of the image is lesion" in result.refusal
    assert {(kind, *ids) for kind, ids in found(result)} >= {("inverted", f"f{row:02d}") for row in range(FEW)}


def test_files_that_cannot_be_used_are_told_and_stop_nothing(made: Made) -> None:
    folder = made.write()
    (folder / "images" / "f03.png").write_bytes(b"no picture")
    (folder / "masks" / "f04.png").unlink()
    (folder / "images" / "x.png").symlink_to("x.png")
    result = audit(folder, stores=folder.parent / "stores")
    assert [finding.file for finding in result.findings] == ["images/f03.png", "images/f04.png", "images/x.png"]
    assert {finding.kind for finding in result.findings} == {Kind.UNUSABLE} and len(result.seen) == FEW - 2


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"no pair .* can be read in .* \(images/a.png: cannot be decoded"):
        audit(tmp_path, stores=tmp_path / "stores")


def test_an_audit_changes_nothing_in_the_folder_and_leaves_no_store(made: Made) -> None:
    before = {path: path.read_bytes() for path in made.write().rglob("*.png")}
    audit(made.folder, stores=made.folder.parent / "stores")
    assert {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()} == before
    assert not (made.folder.parent / "stores").exists()


def test_only_what_is_wrong_has_the_weight_of_a_fault() -> None:
    assert {kind.label for kind in Kind if kind.weight is not Weight.FAULT} == {
        *("alike", "same-mask", "empty", "dark", "size", "text", "inset")
    }
