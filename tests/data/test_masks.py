"""What is lesion is decided once for a folder, from all its masks, and said."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data.ingest import ingest
from fedpolyp.data.masks import MaskSettings
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from tests.picture_folders import HEIGHT, WIDTH, encoded, picture, shape, with_palette, write_pair

Mask = NDArray[Any]
COUNT = 6
SHAPES = [shape(seed) for seed in range(COUNT)]
LEFT = np.zeros((HEIGHT, WIDTH), np.uint8)
LEFT[:, : WIDTH // 2] = 1


def halves(first: int, second: int) -> list[Mask]:
    """Lesions whose left half has one value, and whose right half another."""
    return [one * np.where(LEFT, first, second).astype(np.uint16 if second > 255 else np.uint8) for one in SHAPES]


def made(
    folder: Path, masks: Sequence[bytes | Mask], settings: MaskSettings | None = None, suffix: str = ".png"
) -> Store:
    """The store, as large as the images, of a folder with these masks."""
    for seed, mask in enumerate(masks):
        content = mask if isinstance(mask, bytes) else encoded(mask, suffix)
        write_pair(folder, f"{seed:02d}", encoded(picture(seed)), content)
    return ingest(folder, HEIGHT, folder / "stores", settings or MaskSettings())


def at_size(mask: Mask) -> NDArray[np.uint8]:
    """A mask of 0 and 1 resized by area and cut at a half."""
    return np.asarray(cv2.resize(255 * mask, (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA) >= 128, np.uint8)


def rule(store: Store) -> str:
    return store.report.notes[0]


RIGHT = np.stack([at_size(one) for one in SHAPES])
OPAQUE = np.full((HEIGHT, WIDTH), 255, np.uint8)


def painted(colour: tuple[int, int, int], background: tuple[int, int, int] = (0, 0, 0)) -> list[Mask]:
    return [np.where(one[..., None], np.array(colour, np.uint8), np.array(background, np.uint8)) for one in SHAPES]


KINDS: dict[str, tuple[Callable[[], Sequence[bytes | Mask]], str]] = {
    "0 and 255": (lambda: [255 * one for one in SHAPES], "by grey level: background 0, lesion 255"),
    "0 and 1": (lambda: SHAPES, "by grey level: background 0, lesion 1"),
    "class value 2": (lambda: [2 * one for one in SHAPES], "by grey level: background 0, lesion 2"),
    "class value 127": (lambda: [127 * one for one in SHAPES], "by grey level: background 0, lesion 127"),
    "127 and 255 in one mask": (lambda: halves(127, 255), "by grey level: background 0, lesion 127, 255"),
    "classes 1 and 2": (lambda: halves(1, 2), "by grey level: background 0, lesion 1, 2"),
    "instances in 16 bits": (lambda: halves(3, 1001), "by grey level: background 0, lesion 3, 1001"),
    "0 and 65535": (lambda: [65535 * one.astype(np.uint16) for one in SHAPES], "background 0, lesion 65535"),
    "0 and 255 in 16 bits": (lambda: [255 * one.astype(np.uint16) for one in SHAPES], "background 0, lesion 255"),
    "noise of 7": (lambda: [np.where(one, 248, 7).astype(np.uint8) for one in SHAPES], "background 7, lesion 248"),
    "class colour (128, 0, 0)": (lambda: painted((128, 0, 0)), "by grey level: background 0, lesion 128"),
    "blue": (lambda: painted((0, 0, 255)), "by grey level: background 0, lesion 255"),
    "alpha, all white": (
        lambda: [np.dstack([OPAQUE, OPAQUE, OPAQUE, 255 * one]) for one in SHAPES],
        "by alpha channel: background 0, lesion 255",
    ),
    "alpha, all black": (
        lambda: [np.dstack([0 * OPAQUE, 0 * OPAQUE, 0 * OPAQUE, 255 * one]) for one in SHAPES],
        "by alpha channel: background 0, lesion 255",
    ),
    "red on transparent white": (
        lambda: [
            np.dstack([paint, 255 * one]) for paint, one in zip(painted((255, 0, 0), (255,) * 3), SHAPES, strict=True)
        ],
        "by alpha channel: background 0, lesion 255",
    ),
    "half transparent red": (
        lambda: [np.dstack([paint, 127 * one]) for paint, one in zip(painted((255, 0, 0)), SHAPES, strict=True)],
        "by alpha channel: background 0, lesion 127",
    ),
    "black and white, all of it half transparent": (
        lambda: [np.dstack([255 * one] * 3 + [OPAQUE // 2]) for one in SHAPES],
        "by grey level: background 0, lesion 255",
    ),
    "opaque alpha that says nothing": (
        lambda: [np.dstack([255 * one, 255 * one, 255 * one, OPAQUE]) for one in SHAPES],
        "by grey level: background 0, lesion 255",
    ),
    "black and white, transparent at the border": (
        lambda: [np.dstack([255 * one] * 3 + [np.pad(OPAQUE[5:-5, 5:-5], 5)]) for one in SHAPES],
        "by grey level: background 0, lesion 255",
    ),
    "palette with a white background": (
        lambda: [with_palette(one, (255, 255, 255), (200, 0, 0)) for one in SHAPES],
        "by palette index: background 0, lesion 1",
    ),
    "palette of white and black": (
        lambda: [with_palette(one, (255, 255, 255), (0, 0, 0)) for one in SHAPES],
        "by palette index: background 0, lesion 1",
    ),
    "palettes of unlike order": (
        lambda: [
            with_palette(one, (0, 0, 0), (255, 255, 255)) if odd else with_palette(1 - one, (255, 255, 255), (0, 0, 0))
            for odd, one in enumerate(SHAPES)
        ],
        "by grey level: background 0, lesion 255",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_has_its_lesion_to_the_pixel_and_says_its_rule(tmp_path: Path, kind: str) -> None:
    masks, said = KINDS[kind]
    store = made(tmp_path, masks())
    assert store.report.rejected == ()
    assert np.array_equal(store.masks, RIGHT)
    assert said in rule(store)
    assert Store.open(store.path).report.notes == store.report.notes


def test_a_dozen_instances_in_one_mask_are_all_lesion(tmp_path: Path) -> None:
    columns = np.arange(WIDTH, dtype=np.uint16)[None] // 11
    store = made(tmp_path, [one * (100 * columns + 3) for one in SHAPES])
    assert np.array_equal(store.masks, RIGHT)


@pytest.mark.parametrize("quality", [15, 50, 75, 95])
def test_jpeg_of_any_quality_is_no_photograph(tmp_path: Path, quality: int) -> None:
    def saved(mask: Mask) -> bytes:
        return cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    store = made(tmp_path, [saved(255 * one) for one in SHAPES])
    assert store.report.rejected == ()
    assert (store.masks != RIGHT).mean() < 0.002


def test_jpeg_leaves_noise_that_changes_no_lesion(tmp_path: Path) -> None:
    store = made(tmp_path, [255 * one for one in SHAPES], suffix=".jpg")
    assert (store.masks != RIGHT).sum() <= 2 * COUNT
    assert rule(store) == "masks by grey level: background 0, lesion 255"


def test_jpeg_masks_of_two_classes_keep_both(tmp_path: Path) -> None:
    store = made(tmp_path, halves(127, 255), suffix=".jpg")
    assert store.report.rejected == ()
    assert (store.masks != RIGHT).mean() < 0.002
    assert "lesion 127, 255" in rule(store) or "lesion 126, 255" in rule(store) or "lesion 128, 255" in rule(store)


def test_soft_edges_are_cut_at_their_middle(tmp_path: Path) -> None:
    soft = [cv2.GaussianBlur(255 * one, (5, 5), 1.2) for one in SHAPES]
    store = made(tmp_path, soft)
    assert rule(store) == "masks by grey level: background 0, lesion 255"
    expected = np.stack([at_size((one >= 128).astype(np.uint8)) for one in soft])
    assert np.array_equal(store.masks, expected)


def test_a_mask_is_made_binary_before_it_is_resized(tmp_path: Path) -> None:
    mask = np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8)
    mask[40:100, 40:160] = 1
    mask[41, 40:160] = 2
    write_pair(tmp_path, "a", encoded(picture(0, 2 * HEIGHT, 2 * WIDTH)), encoded(mask))
    store = ingest(tmp_path, HEIGHT, tmp_path / "stores")
    assert np.array_equal(store.masks[0], at_size((mask > 0).astype(np.uint8)))


def test_one_grey_level_of_noise_in_an_empty_mask_is_no_lesion(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
    store = made(tmp_path, [*(255 * one for one in SHAPES), noise])
    assert np.array_equal(store.masks, RIGHT)
    (rejection,) = store.report.rejected
    assert rejection.file == "masks/06.png"
    assert rejection.reason == "the mask is empty except for noise, with values up to 1"


def test_a_mask_of_nothing_but_0_is_that_of_a_frame_without_a_polyp(tmp_path: Path) -> None:
    store = made(tmp_path, [*SHAPES, 0 * SHAPES[0]])
    assert store.report.rejected == ()
    assert [record.lesion_fraction > 0 for record in store.records] == [True] * COUNT + [False]
    assert not store.masks[-1].any()
    assert "1 of 7 are frames without a polyp (first: masks/06.png)" in store.report.notes


def test_what_is_unlike_the_other_masks_is_called_unknown_not_empty(tmp_path: Path) -> None:
    many = [255 * shape(seed) for seed in range(20)]
    store = made(tmp_path, [*many, 2 * SHAPES[0]])
    (rejection,) = store.report.rejected
    assert rejection.file == "masks/20.png"
    assert rejection.reason == "unknown: its values are 0, 2; in this folder, background 0, 2, lesion 255"


def test_a_photograph_among_many_masks_is_left_out_by_name(tmp_path: Path) -> None:
    store = made(tmp_path, [*(255 * shape(seed) for seed in range(20)), picture(3)])
    (rejection,) = store.report.rejected
    assert rejection.file == "masks/20.png"
    assert rejection.reason.startswith("unknown: it has 2") and "as a photograph has" in rejection.reason


def test_a_lesion_too_small_for_the_store_is_not_called_empty(tmp_path: Path) -> None:
    made(tmp_path, SHAPES)
    tiny = 0 * SHAPES[0]
    tiny[0, 0] = 1
    write_pair(tmp_path, "tiny", encoded(picture(9)), encoded(tiny))
    (rejection,) = ingest(tmp_path, 32, tmp_path / "stores").report.rejected
    assert rejection.reason == "the lesion is too small: of its 1 pixels none is left at 32x32"


@pytest.mark.parametrize(("given", "expected"), [("1", LEFT), ("2", 1 - LEFT), ("1,2", LEFT | 1), ("2,9", 1 - LEFT)])
def test_lesion_values_overrule_what_would_be_decided(tmp_path: Path, given: str, expected: Mask) -> None:
    wide = [cv2.resize(one, (WIDTH, HEIGHT)) for one in SHAPES]
    store = made(tmp_path, halves(1, 2), MaskSettings.of("checked", given))
    lesions = [at_size(one * expected) for one in wide]
    assert np.array_equal(store.masks, np.stack([one for one in lesions if one.any()]))
    assert "(as given)" in rule(store)


def test_lesion_values_turn_inverted_jpeg_masks_the_right_way(tmp_path: Path) -> None:
    store = made(tmp_path, [255 - 255 * one for one in SHAPES], MaskSettings.of("checked", "0"), suffix=".jpg")
    assert (store.masks != RIGHT).sum() <= 2 * COUNT
    assert rule(store) == "masks by grey level: background 255, lesion 0 (as given)"


def test_a_colour_may_be_named_as_lesion(tmp_path: Path) -> None:
    red, green = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)
    masks = [np.where(LEFT[..., None], red, green) * one[..., None] for one in SHAPES]
    store = made(tmp_path, masks, MaskSettings.of("checked", "#FF0000"))
    lesions = [at_size(one * LEFT) for one in SHAPES]
    assert np.array_equal(store.masks, np.stack([one for one in lesions if one.any()]))
    assert rule(store) == "masks lesion #ff0000"


def test_a_colour_named_as_lesion_needs_no_black_background(tmp_path: Path) -> None:
    store = made(tmp_path, painted((255, 0, 0), (255, 255, 255)), MaskSettings.of("checked", "#ff0000"))
    assert np.array_equal(store.masks, RIGHT)


def test_lesion_values_that_no_mask_has_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no mask in .* has a value of 7, named as lesion; there are 0, 1$"):
        made(tmp_path, SHAPES, MaskSettings.of("checked", "7"))


def test_other_settings_for_the_masks_make_another_store(tmp_path: Path) -> None:
    paths = {made(tmp_path, halves(1, 2), MaskSettings.of(*words)).path for words in SETTINGS}
    assert len(paths) == len(SETTINGS)


SETTINGS = [("checked", None), ("as-they-are", None), ("checked", "1"), ("checked", "2"), ("checked", "#010101")]
