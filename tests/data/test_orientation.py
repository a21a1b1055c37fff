"""A mask lies on its image as it was drawn, whatever their EXIF tags say of turning them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fedpolyp.data.ingest import ingest
from fedpolyp.data.reading import decode_image, decode_mask, look, turned, turned_back
from fedpolyp.data.store import Store
from tests.picture_folders import picture, shape, with_orientation, write_pair

QUARTER_TURNS = (5, 6, 7, 8)
FORMATS = ("PNG", "JPEG", "TIFF")
IMAGE, MASK = picture(), 255 * shape()
SIZE = 64


def at_size(pixels: NDArray[Any]) -> NDArray[Any]:
    return cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def made(folder: Path, image: bytes, mask: bytes) -> Store:
    """The store of one pair whose tags are in question, and of one without any."""
    write_pair(folder, "tagged", image, mask)
    write_pair(folder, "untagged", seed=1)
    return ingest(folder, SIZE, folder / "stores")


def lies_alike(store: Store, image: NDArray[Any], mask: NDArray[Any]) -> bool:
    """Whether the stored pair is `image` and `mask`, within what JPEG changes."""
    near = np.abs(store.images[0].astype(int) - at_size(image)).mean() < 4
    return bool(near and (store.masks[0] != (at_size(mask) >= 128)).mean() < 0.01)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_read_as_stored_and_turned_as_pillow_turns_them(format: str, orientation: int) -> None:
    content = with_orientation(IMAGE, orientation, format)
    expected = np.asarray(ImageOps.exif_transpose(Image.fromarray(IMAGE)))
    if orientation > 1:
        tagged = Image.fromarray(IMAGE)
        tagged.getexif()[274] = orientation
        expected = np.asarray(ImageOps.exif_transpose(tagged))
    for decode in (decode_image, decode_mask):
        read = decode(look("a", content))
        assert read.orientation == orientation
        assert np.abs(read.pixels.astype(int) - IMAGE).mean() < 3
        upright = turned(read.pixels, orientation)
        assert upright.shape == expected.shape
        assert np.abs(upright.astype(int) - expected).mean() < 3
        assert np.array_equal(turned_back(upright, orientation), read.pixels)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", QUARTER_TURNS)
def test_a_mask_drawn_on_the_turned_image_stays_as_it_is(tmp_path: Path, orientation: int, format: str) -> None:
    upright = turned(MASK, orientation)
    store = made(tmp_path, with_orientation(IMAGE, orientation, format), with_orientation(upright, 1))
    assert lies_alike(store, turned(IMAGE, orientation), upright)
    assert (store.records[0].height, store.records[0].width) == upright.shape
    assert "EXIF orientation: 1 pair has one" in store.report.notes[1]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", QUARTER_TURNS)
def test_a_mask_drawn_on_the_image_as_stored_stays_on_it(tmp_path: Path, orientation: int, format: str) -> None:
    store = made(tmp_path, with_orientation(IMAGE, orientation, format), with_orientation(MASK, 1))
    assert lies_alike(store, IMAGE, MASK)
    assert (store.records[0].height, store.records[0].width) == MASK.shape


@pytest.mark.parametrize("orientation", range(2, 9))
def test_equal_tags_turn_both(tmp_path: Path, orientation: int) -> None:
    store = made(tmp_path, with_orientation(IMAGE, orientation, "JPEG"), with_orientation(MASK, orientation))
    assert lies_alike(store, turned(IMAGE, orientation), turned(MASK, orientation))


@pytest.mark.parametrize("orientation", QUARTER_TURNS)
def test_a_mask_may_be_the_one_with_the_tag(tmp_path: Path, orientation: int) -> None:
    lying = turned_back(MASK, orientation)
    store = made(tmp_path, with_orientation(IMAGE, 1), with_orientation(lying, orientation))
    assert lies_alike(store, IMAGE, MASK)


@pytest.mark.parametrize(("orientation", "height"), [(2, 96), (3, 96), (4, 96), (6, 128), (3, 128)])
def test_a_pair_that_does_not_tell_is_counted_and_named(tmp_path: Path, orientation: int, height: int) -> None:
    image, mask = picture(0, height, 128), 255 * shape(0, height, 128)
    store = made(tmp_path, with_orientation(image, orientation, "JPEG"), with_orientation(mask, 1))
    assert [record.id for record in store.records] == ["untagged"]
    (rejection,) = store.report.rejected
    assert rejection.file == "masks/tagged.png"
    assert rejection.reason == (
        f"the EXIF orientation of the image is {orientation}, that of its mask 1, and their sizes do not show whether "
        "to rotate them: save both without the tag"
    )


def test_sizes_that_fit_neither_way_are_named(tmp_path: Path) -> None:
    store = made(tmp_path, with_orientation(IMAGE, 6, "JPEG"), with_orientation(MASK[:90], 1))
    assert store.report.rejected[0].reason == "the mask is 128x90 pixels, its image 128x96"
