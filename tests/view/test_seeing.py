"""What the page cuts is what `fedpolyp predict` cuts, at each of the slider's thresholds."""

import asyncio
import base64
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fedpolyp.errors import FedpolypError
from fedpolyp.inference.predictor import Seen
from fedpolyp.view.seeing import Seer, Unreadable, levels_of, quantized
from tests.view.places import Red


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(pixels[..., ::-1]))[1])


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.4213, 0.001, 0.999])
def test_one_byte_a_pixel_tells_every_mask_to_the_pixel(threshold: float) -> None:
    rng, levels = np.random.default_rng(0), levels_of(threshold)
    beside, ends = np.array([-1e-7, 0, 1e-7], np.float32), np.array([0, 1], np.float32)
    near = (levels[:, None] + beside).ravel().astype(np.float32)  # where rounding would show
    probability = np.concatenate([near, rng.random(997).astype(np.float32), ends]).clip(0, 1)[None]
    counts = quantized(probability, levels)
    assert np.float32(threshold) in levels and len(levels) <= 255
    for place, level in enumerate(levels, 1):
        assert ((counts >= place) == Seen.of(probability, float(level)).mask).all()


def test_a_model_that_gives_no_numbers_has_no_mask() -> None:
    with pytest.raises(FedpolypError, match="not numbers"):
        quantized(np.array([[0.5, np.nan]], np.float32), levels_of(0.5))


def test_the_answer_has_the_images_own_size_and_says_which_level_is_the_models_own(tmp_path: Path) -> None:
    file, red, loads = tmp_path / "model.keras", Red(), list[Path]()
    file.touch()
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[:10, :20, 0] = 200

    def load(path: Path) -> Red:
        loads.append(path)
        return red

    seer = Seer(load)
    said = asyncio.run(seer.see(encoded(".png", pixels), file))
    asyncio.run(seer.see(encoded(".png", pixels), file))
    assert loads == [file] and not seer.busy
    assert (said["width"], said["height"], said["levels"][said["threshold"] - 1]) == (50, 30, 0.5)
    counts = cv2.imdecode(np.frombuffer(base64.b64decode(said["png"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert counts is not None and counts.shape == (30, 50)
    assert (np.greater_equal(counts, said["threshold"]) == (pixels[..., 0] == 200)).all()
    file.write_bytes(b"saved anew")
    asyncio.run(seer.see(encoded(".png", pixels), file))
    assert loads == [file, file]


def test_an_image_comes_upright_to_the_model_and_to_the_page() -> None:
    picture, red = Image.new("RGB", (8, 6)), Red()
    picture.paste((255, 0, 0), (0, 0, 8, 1))  # the top row is red
    exif = picture.getexif()
    exif[274] = 6  # to be turned to the right: the red row is the last column
    content = io.BytesIO()
    picture.save(content, "PNG", exif=exif)
    seer = Seer(lambda path: red)
    asyncio.run(seer.see(content.getvalue(), Path(__file__)))
    (asked,) = red.asked
    assert asked.shape == (8, 6, 3) and (asked[:, 5, 0] == 255).all() and not asked[:, :5].any()
    shown = asyncio.run(seer.picture(content.getvalue()))
    assert (shown["width"], shown["height"]) == (6, 8)


def test_a_large_image_is_shown_smaller_and_keeps_its_size() -> None:
    said = asyncio.run(Seer(lambda path: Red()).picture(encoded(".png", np.zeros((3000, 1000, 3), np.uint8))))
    jpeg = cv2.imdecode(np.frombuffer(base64.b64decode(said["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert jpeg is not None and jpeg.shape[:2] == (2048, 683) and (said["width"], said["height"]) == (1000, 3000)


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 2.5 billion pixels."""
    whole = bytearray(encoded(".png", np.zeros((1, 1, 3), np.uint8)))
    whole[16:24] = (50_000).to_bytes(4, "big") * 2
    import zlib

    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


def animated(kind: str) -> bytes:
    content = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(content, kind, save_all=True, append_images=frames[1:])
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be decoded"),
        (b"no image", "cannot be decoded"),
        (encoded(".png", np.zeros((40, 40, 3), np.uint8))[:60], "cannot be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "cannot be decoded"),
        (bomb(), "too many pixels|at most 36,000,000 are decoded"),
        (animated("PNG"), "2 or more pages"),
        (animated("TIFF"), "2 or more pages"),
        (animated("GIF"), "BMP, JPEG, PNG and TIFF are read"),
        (encoded(".webp", np.zeros((8, 8, 3), np.uint8)), "BMP, JPEG, PNG and TIFF are read"),
    ],
    ids=["empty", "text", "cut", "svg", "bomb", "apng", "tiff", "gif", "webp"],
)
def test_what_is_no_single_image_is_refused_before_it_is_decoded(content: bytes, sentence: str) -> None:
    red = Red()
    seer = Seer(lambda path: red)
    for asked in (seer.picture(content), seer.see(content, Path(__file__))):
        with pytest.raises(Unreadable, match=sentence):
            asyncio.run(asked)
    assert red.asked == [] and not seer.busy
