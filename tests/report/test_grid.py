from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedpolyp.report.grid import Image, Outline, Tile, draw_grid


def drawn(path: Path) -> Image:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def grey(side: int) -> Image:
    return np.full((side, side, 3), 128, np.uint8)


def square(side: int, first: int, last: int) -> Image:
    mask = np.zeros((side, side), np.uint8)
    mask[first : last + 1, first : last + 1] = 1
    return mask


def tile_of(path: Path, *outlines: Outline, side: int = 128) -> Image:
    """The pixels of the only tile of a grid: the block that is neither white nor text."""
    draw_grid(path, [[Tile(grey(32), outlines, "")]], side, "")
    picture = drawn(path)
    inside = (picture != 255).any(axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    block = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert block.shape == (side, side, 3)
    return block


def of_colour(picture: Image, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(picture.astype(int) - colour) < 8
    return np.asarray(near.all(axis=2))


def test_an_outline_runs_along_the_border_of_the_mask_with_a_dark_halo(tmp_path: Path) -> None:
    tile = tile_of(tmp_path / "grid.png", Outline(square(32, 8, 23), "#ff0000", 2.0))
    rows, columns = np.nonzero(of_colour(tile, (255, 0, 0)))
    # Mask pixels 8..23 of 32 cover 32..95 of 128; the line's middle lies on their edge.
    assert abs(int(rows.min()) - 31) <= 1 and abs(int(rows.max()) - 96) <= 1
    assert abs(int(columns.min()) - 31) <= 1 and abs(int(columns.max()) - 96) <= 1
    assert of_colour(tile, (128, 128, 128))[40:88, 40:88].all()
    middle = tile[64, 24:36].astype(int).sum(axis=1)
    red = int(np.flatnonzero(of_colour(tile, (255, 0, 0))[64, 24:36])[0])
    assert middle[:red].min() < 200 and middle[red + 1 :].min() < 200


def test_where_two_outlines_run_together_both_are_seen(tmp_path: Path) -> None:
    mask = square(32, 8, 23)
    tile = tile_of(tmp_path / "grid.png", Outline(mask, "#0000ff", 4.0), Outline(mask, "#ff0000", 2.0))
    assert of_colour(tile, (255, 0, 0)).sum() > 200
    assert of_colour(tile, (0, 0, 255)).sum() > 200


@pytest.mark.parametrize("fill", [0, 1])
def test_a_mask_without_a_border_gets_no_outline(tmp_path: Path, fill: int) -> None:
    tile = tile_of(tmp_path / "grid.png", Outline(np.full((32, 32), fill, np.uint8), "#ff0000"))
    assert of_colour(tile, (128, 128, 128)).all()


def test_a_lesion_of_one_pixel_is_outlined(tmp_path: Path) -> None:
    tile = tile_of(tmp_path / "grid.png", Outline(square(32, 16, 16), "#ff0000"))
    assert of_colour(tile, (255, 0, 0)).any()


def test_images_keep_their_pixels_at_their_own_size(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    draw_grid(tmp_path / "grid.png", [[Tile(image, (), "")]], 64, "")
    assert image.tobytes() in [drawn(tmp_path / "grid.png")[top : top + 64, 8:72].tobytes() for top in range(20, 60)]


def test_a_caption_with_dollar_signs_is_text_not_mathematics(tmp_path: Path) -> None:
    draw_grid(tmp_path / "grid.png", [[Tile(grey(32), (), "$\\frac$")]], 32, "$^$")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(figure: Figure, stream: BinaryIO, **options: Any) -> None:
        stream.write(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    (tmp_path / "grid.png").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        draw_grid(tmp_path / "grid.png", [[Tile(grey(32), (), "")]], 32, "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"grid.png": b"old"}
