"""What few masks have moves no threshold of the others, and what is not understood is left out by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data.ingest import ingest
from fedpolyp.data.levels import Histogram, Levels
from fedpolyp.data.masks import MaskSettings
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from tests.picture_folders import HEIGHT, WIDTH, encoded, picture, shape, with_palette, write_pair

Mask = NDArray[Any]
COUNT = 20
SHAPES = [shape(seed) for seed in range(COUNT)]
ODD = 4  # the number of the mask that is unlike the others


def jpeg(mask: Mask, quality: int) -> bytes:
    return cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def made(folder: Path, masks: Sequence[bytes], side: int = HEIGHT) -> Store:
    """The store of a folder with these masks."""
    for number, mask in enumerate(masks):
        write_pair(folder, f"{number:02d}", encoded(picture(number)), mask)
    return ingest(folder, side, folder / "stores")


def at_size(mask: Mask) -> NDArray[np.uint8]:
    """A mask of 0 and 1 resized by area and cut at a half."""
    return np.asarray(cv2.resize(255 * mask, (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA) >= 128, np.uint8)


def left_out(store: Store) -> dict[str, str]:
    return {rejection.file: rejection.reason for rejection in store.report.rejected}


def patched(value: int) -> Mask:
    """A mask of 255 with a patch of `value` beside it."""
    mask = 255 * SHAPES[ODD]
    mask[:14, :14] = value
    return mask


@pytest.mark.parametrize("value", [8, 14, 40])
@pytest.mark.parametrize("quality", [15, 50])
def test_a_dim_patch_in_one_lossless_mask_changes_no_jpeg_mask(tmp_path: Path, value: int, quality: int) -> None:
    others = [jpeg(255 * one, quality) for one in SHAPES]
    alone = made(tmp_path / "alone", others).masks
    store = made(tmp_path / "mixed", [*others[:ODD], encoded(patched(value)), *others[ODD + 1 :]])
    assert np.array_equal(store.masks, np.delete(alone, ODD, axis=0))
    assert left_out(store) == {
        f"masks/{ODD:02d}.png": f"unknown: it has areas of {value}; in this folder, background 0, lesion 255"
    }


def test_a_class_that_one_lossless_mask_has_changes_no_other_mask(tmp_path: Path) -> None:
    others = [jpeg(255 * one, 10) for one in SHAPES]
    alone = made(tmp_path / "alone", others).masks
    store = made(tmp_path / "mixed", [*others[:ODD], encoded(100 * SHAPES[ODD]), *others[ODD + 1 :]])
    assert store.report.notes[0] == "masks by grey level: background 0, lesion 100, 255"
    assert np.array_equal(np.delete(store.masks, ODD, axis=0), np.delete(alone, ODD, axis=0))
    assert store.masks[ODD].any()


def test_a_mask_is_cut_between_its_own_levels() -> None:
    levels = Levels((0, 40, 255), (False, True, True), 8)

    def lowest(mask: Mask) -> int:
        return int(levels.table(Histogram.of(mask, lossy=False)).argmax())

    assert lowest(255 * SHAPES[0]) == 128
    assert lowest(40 * SHAPES[0]) == 20
    assert lowest(0 * SHAPES[0]) == 0  # none at all


@pytest.mark.parametrize("quality", [60, 85, 95])
def test_a_rare_class_in_a_part_of_a_jpeg_lesion_is_left_out_by_name(tmp_path: Path, quality: int) -> None:
    half = np.argwhere(SHAPES[ODD])[:, 1].mean().astype(int)
    mask = 255 * SHAPES[ODD]
    mask[:, :half] = np.minimum(mask[:, :half], 110)
    masks = [jpeg(mask if number == ODD else 255 * one, quality) for number, one in enumerate(SHAPES)]
    store = made(tmp_path, masks)
    assert list(left_out(store)) == [f"masks/{ODD:02d}.png"]
    assert left_out(store)[f"masks/{ODD:02d}.png"].startswith("unknown: it has areas of 1")


def test_a_dim_block_in_an_otherwise_empty_mask_is_unknown(tmp_path: Path) -> None:
    block = 0 * SHAPES[0]
    block[8:16, 8:16] = 12
    store = made(tmp_path, [encoded(block if number == ODD else 255 * one) for number, one in enumerate(SHAPES)])
    assert left_out(store) == {
        f"masks/{ODD:02d}.png": "unknown: it has areas of 12; in this folder, background 0, lesion 255"
    }


@pytest.mark.parametrize("every", [2, COUNT])
def test_dim_noise_in_empty_masks_is_no_lesion_however_many_have_it(tmp_path: Path, every: int) -> None:
    def mask(number: int) -> Mask:
        noise = np.random.default_rng(number).random((HEIGHT, WIDTH)) < 0.02
        return 9 * noise.astype(np.uint8) if number % every == 0 else 255 * SHAPES[number]

    store = made(tmp_path, [encoded(mask(number)) for number in range(COUNT)])
    assert set(left_out(store)) == {f"masks/{number:02d}.png" for number in range(0, COUNT, every)}
    assert set(left_out(store).values()) == {"the mask is empty except for noise, with values up to 9"}


def test_dim_classes_that_many_masks_have_are_kept(tmp_path: Path) -> None:
    store = made(tmp_path, [encoded(one * np.uint8(20 if number % 3 else 200)) for number, one in enumerate(SHAPES)])
    assert store.report.rejected == ()
    assert store.report.notes[0] == "masks by grey level: background 0, lesion 20, 200"


def test_instances_are_kept_however_rare_their_numbers(tmp_path: Path) -> None:
    store = made(tmp_path, [encoded(one * np.uint8(9 + 12 * number)) for number, one in enumerate(SHAPES)])
    assert store.report.rejected == ()


def ringed(number: int, width: int = 3) -> Mask:
    """A lesion of 1 with a border of 255 around it, as in PASCAL VOC."""
    around = cv2.dilate(SHAPES[number], np.ones((width, width), np.uint8)) - SHAPES[number]
    return SHAPES[number] + 255 * around


COLOURS = [(0, 0, 0), (128, 0, 0), *[(0, 0, 0)] * 253, (224, 224, 192)]
RINGS: dict[str, tuple[Callable[[NDArray[np.uint8]], bytes], str]] = {
    "palette": (lambda one: with_palette(one, *COLOURS), "they have palette index 255, often pixels to ignore"),
    "grey palette": (
        lambda one: with_palette(one, *[(value,) * 3 for value in range(256)]),
        "they have areas of 1 beside 255, noise or a class",
    ),
    "grey": (encoded, "they have areas of 1 beside 255, noise or a class"),
}


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("kind", RINGS)
def test_a_border_of_255_around_lesions_of_1_is_asked_about(tmp_path: Path, kind: str, width: int) -> None:
    save, said = RINGS[kind]
    with pytest.raises(UsageError, match=said) as stopped:
        made(tmp_path, [save(ringed(number, width)) for number in range(6)])
    assert "--lesion-values" in str(stopped.value)
    store = ingest(tmp_path, HEIGHT, tmp_path / "stores", MaskSettings.of("checked", "1"))
    assert store.report.notes[0].endswith("background 0, 255, lesion 1 (as given)")
    assert np.array_equal(store.masks, np.stack([at_size(one) for one in SHAPES[:6]]))


def test_palette_indices_are_lesion_however_small_their_shapes(tmp_path: Path) -> None:
    def mask(number: int) -> Mask:
        thin = SHAPES[number].copy()
        thin[40:42, 2:90] = 40
        return thin

    store = made(tmp_path, [with_palette(mask(number), *COLOURS) for number in range(6)])
    assert store.report.notes[0] == "masks by palette index: background 0, lesion 1, 40"
    assert np.array_equal(store.masks, np.stack([at_size((mask(n) > 0).astype(np.uint8)) for n in range(6)]))


def test_soft_edges_in_grey_with_a_palette_are_cut_at_their_middle(tmp_path: Path) -> None:
    soft = [
        cv2.resize(cv2.resize(255 * one, None, fx=0.5, fy=0.5, interpolation=3), None, fx=2, fy=2) for one in SHAPES
    ]
    cut = [(one // 51 * 51).astype(np.uint8) for one in soft]
    ramp = [(value,) * 3 for value in range(256)]
    store = made(tmp_path, [with_palette(one, *ramp) for one in cut])
    assert store.report.notes[0] == "masks by grey level: background 0, lesion 255"


def coarse(number: int, greys: int) -> Mask:
    """A soft mask of an eighth of the size, with so many greys, enlarged by nearest neighbour."""
    small = cv2.resize(255 * shape(number), (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA)
    stepped = np.round(small / 255 * (greys + 1)) * (255 / (greys + 1))
    return cv2.resize(stepped.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("greys", [4, 7, 14])
def test_a_soft_edge_in_blocks_is_cut_at_half(tmp_path: Path, greys: int) -> None:
    masks = [coarse(number, greys) for number in range(COUNT)]
    store = made(tmp_path, [encoded(one) for one in masks])
    assert store.report.rejected == ()
    assert "background 0, lesion 255, greys between them cut at half (" in store.report.notes[0]
    assert np.array_equal(store.masks, np.stack([at_size((one >= 128).astype(np.uint8)) for one in masks]))


def test_classes_in_even_steps_are_no_edge(tmp_path: Path) -> None:
    def apart(number: int) -> Mask:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for instance in range(5):
            mask[8 + number : 30 + number, 4 + 24 * instance : 20 + 24 * instance] = 51 * (instance + 1)
        return mask

    def touching(number: int) -> Mask:
        return SHAPES[number] * np.where(np.arange(WIDTH) < 64, 51 * (1 + number % 4), 255).astype(np.uint8)

    for draw in (apart, touching):
        folder = tmp_path / draw.__name__
        store = made(folder, [encoded(draw(number)) for number in range(COUNT)])
        assert store.report.notes[0].startswith("masks by grey level: background 0, lesion 51, 102, 153, 204, 255")
        expected = [at_size((draw(number) > 0).astype(np.uint8)) for number in range(COUNT)]
        assert np.array_equal(store.masks, np.stack(expected))
