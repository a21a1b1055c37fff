"""A digest tells a changed partition, file or pixel, and nothing that decides no bit."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.data.digest import Digest, files_digest
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.store import ImageRecord, IngestReport, Store, write_store
from fedpolyp.errors import FedpolypError

PARTITION = Partition(("c",), {"one": HospitalImages(("a",), (), ()), "two": HospitalImages(("d",), ("b",), ())})


def store(path: Path, ids: str = "abcd", sha256: str = "00", **changes: int) -> Store:
    """A store in which each image is filled with what its id is, but for the first pixel of those in `changes`."""
    images = np.stack([np.full((32, 32, 3), ord(id), np.uint8) for id in ids])
    masks = np.stack([np.tri(32, k=ord(id) - 100, dtype=np.uint8) for id in ids])
    for name, row in changes.items():
        pixels = (images if name == "image" else masks)[row].reshape(-1)
        pixels[0] ^= 1
    records = [ImageRecord(id, "x", -1, 32, 32, 0.5, (0.5, 0.5, 0.5), row, sha256 + id) for row, id in enumerate(ids)]
    return write_store(path, images, masks, records, IngestReport(len(ids)))


def test_where_the_images_lie_in_which_order_and_beside_which_others_does_not_count(tmp_path: Path) -> None:
    one, other = Digest.of(PARTITION, store(tmp_path / "1")), Digest.of(PARTITION, store(tmp_path / "2", "xdcbay"))
    assert one == other and one.change(other) == ""


@pytest.mark.parametrize(("changed", "said"), [("image", "its images have"), ("mask", "its masks have")])
def test_a_single_flipped_pixel_is_found_and_called_what_it_is(tmp_path: Path, changed: str, said: str) -> None:
    before = Digest.of(PARTITION, store(tmp_path / "1"))
    for row in range(4):
        flipped: dict[str, Any] = {changed: row}
        change = before.change(Digest.of(PARTITION, store(tmp_path / f"{row}-2", **flipped)))
        assert change.startswith(said) and "their files are the same: the store was changed" in change
    assert before.change(Digest.of(PARTITION, store(tmp_path / "3", "abcde", mask=4))) == ""  # which is in no set


def test_files_that_were_written_anew_with_the_same_pixels_are_the_same_images(tmp_path: Path) -> None:
    one, other = (Digest.of(PARTITION, store(tmp_path / sha, sha256=sha)) for sha in ("00", "01"))
    assert one.files != other.files and one.change(other) == ""
    changed = Digest.of(PARTITION, store(tmp_path / "2", sha256="02", mask=0))
    assert one.change(changed) == "its masks have changed since it began"


@pytest.mark.parametrize(
    "swapped",
    [
        Partition(("a",), {"one": HospitalImages(("c",), (), ()), "two": HospitalImages(("d",), ("b",), ())}),
        Partition(("c",), {"one": HospitalImages(("a",), (), ()), "two": HospitalImages(("b",), ("d",), ())}),
        Partition(("c",), {"one": HospitalImages(("d",), ("b",), ()), "two": HospitalImages(("a",), (), ())}),
    ],
)
def test_ids_swapped_between_sets_or_hospitals_are_found(tmp_path: Path, swapped: Partition) -> None:
    opened = store(tmp_path / "s")
    assert "partition.json has changed" in Digest.of(PARTITION, opened).change(Digest.of(swapped, opened))
    assert files_digest(opened, PARTITION) != files_digest(opened, swapped)


def test_a_digest_reads_back_and_what_is_none_is_refused(tmp_path: Path) -> None:
    for digest in (Digest.of(PARTITION, store(tmp_path / "s")), Digest.of(PARTITION, None)):
        assert Digest.from_plain(digest.to_plain()) == digest
    good = Digest.of(PARTITION, None).to_plain()
    damaged: list[object] = [[], None, {}, good | {"partition": None}, good | {"masks": 3}, {"partition": "x"}]
    for plain in damaged:
        with pytest.raises(ValueError):
            Digest.from_plain(plain)


def test_a_run_without_images_of_its_own_does_not_depend_on_a_store(tmp_path: Path) -> None:
    sites = Partition((), {"oslo": HospitalImages((), (), ())})
    assert Digest.of(sites, store(tmp_path / "s")) == Digest.of(sites, None)


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedpolypError, match="no image 'd'"):
        Digest.of(PARTITION, store(tmp_path / "s", "abc"))


def test_a_digest_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Digest.of(PARTITION, None).partition = "x"  # type: ignore[misc]
