"""Models' predictions in an uploaded image: in memory only, one image at a time, in a separate thread."""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.reading import MAX_BYTES, Unusable, decode_image, look, room_for, silent_decoders, turned
from fedpolyp.errors import FedpolypError

MOST_BYTES = MAX_BYTES
_STEPS = 200  # of the threshold
_MODELS = 8  # kept loaded
_SHOWN = 2048  # pixels of the longer side at which an image is shown; masks have the image's own size
_QUALITY = 92


class Unreadable(FedpolypError):
    """The upload is not a readable image."""


class Sees(Protocol):
    """The part of a `Predictor` that is used here."""

    threshold: float

    def at_own_size(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """See `Predictor`."""


def levels_of(threshold: float) -> NDArray[np.float32]:
    """The thresholds of the page's slider, ascending: 0.005 to 0.995, and the model's own."""
    return np.unique(np.array([*(step / _STEPS for step in range(1, _STEPS)), threshold], np.float32))


def quantized(probability: NDArray[np.float32], levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For each pixel (H, W), how many of `levels` its probability reaches.

    A pixel is polyp at the n-th level exactly if this is at least n: one byte for each pixel, and no rounding.

    Raises:
        FedpolypError: a probability is not a number.
    """
    if not np.isfinite(probability).all():
        raise FedpolypError("the model returns values that are not numbers")
    return np.searchsorted(levels, probability.ravel(), side="right").astype(np.uint8).reshape(probability.shape)


class Seer:
    """Decodes images and applies models, one after the other; a model is loaded when it is first needed."""

    def __init__(self, load: Callable[[Path], Sees]) -> None:
        self._load, self._loaded = load, OrderedDict[tuple[Path, int], Sees]()
        self._worker = ThreadPoolExecutor(1, "seer")
        self._waiting = 0

    @property
    def busy(self) -> bool:
        """Whether it is working."""
        return self._waiting > 0

    async def picture(self, content: bytes) -> dict[str, Any]:
        """An image for display: upright, as JPEG, with its own size.

        Raises:
            Unreadable: it is not an image.
        """
        return await self._do(lambda: _shown(_decoded(content)))

    async def see(self, content: bytes, model: Path) -> dict[str, Any]:
        """A model's prediction in an image: `quantized`, as PNG, with the levels and the model's own threshold.

        Raises:
            Unreadable: it is not an image.
            FedpolypError: the model cannot be used.
        """
        return await self._do(lambda: self._seen(_decoded(content), model))

    def close(self) -> None:
        """Start nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _do(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self._waiting += 1
        done = self._worker.submit(work)
        done.add_done_callback(self._count_down)
        return await asyncio.wrap_future(done)

    def _count_down(self, _: object) -> None:
        self._waiting -= 1

    def _seen(self, pixels: NDArray[np.uint8], path: Path) -> dict[str, Any]:
        model = self._model(path)
        levels = levels_of(model.threshold)
        (probability,) = model.at_own_size([pixels])
        return {
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "levels": [round(float(level), 6) for level in levels],
            "threshold": int(np.searchsorted(levels, np.float32(model.threshold))) + 1,  # which of them is its own
            "png": _encoded(".png", quantized(probability, levels)),
        }

    def _model(self, path: Path) -> Sees:
        key = path, path.stat().st_mtime_ns  # a run that is extended saves it again
        if key not in self._loaded:
            self._loaded[key] = self._load(path)
        self._loaded.move_to_end(key)
        while len(self._loaded) > _MODELS:
            self._loaded.popitem(last=False)
        return self._loaded[key]


def load_predictor(path: Path) -> Sees:
    """The model in a .keras file, as `fedpolyp predict` uses it."""
    from fedpolyp.inference.predictor import Predictor

    return Predictor.load(path)


def _decoded(content: bytes) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) RGB of an image, upright.

    Raises:
        Unreadable: it is not an image.
    """
    with silent_decoders():
        try:
            header = look("", content)
            with room_for(header):
                picture = decode_image(header)
        except Unusable as error:
            reason = error.rejection.reason
            raise Unreadable(f"{reason}; BMP, JPEG, PNG and TIFF are read") from None
    return np.asarray(turned(picture.pixels, picture.orientation), np.uint8)


def _shown(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    share = min(1.0, _SHOWN / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = pixels if share == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    jpeg = _encoded(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return {"width": width, "height": height, "jpeg": jpeg}


def _encoded(suffix: str, pixels: NDArray[np.uint8], how: Sequence[int] = ()) -> str:
    there, encoded = cv2.imencode(suffix, pixels, how)
    assert there
    return base64.b64encode(encoded.tobytes()).decode()
