"""Images as worse equipment would show them, at three severities.

These are the kinds of D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness, ICLR 2019, that occur in
endoscopy.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
SEVERITIES = (1, 2, 3)
_LIGHTS = 12  # reflections for each step of severity


def blur(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Out of focus: a Gaussian of 0.6, 1.2 or 1.8 percent of the image's side."""
    return _pixels(cv2.GaussianBlur(image, (0, 0), 0.006 * severity * image.shape[0]))


def noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """A sensor in the dark: Gaussian noise of 15, 30 or 45 of 255."""
    return _pixels(image + rng.normal(0, 15 * severity, image.shape))


def jpeg(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Strong compression: JPEG of quality 40, 20 or 10."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, (40, 20, 10)[severity - 1]])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def darkness(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Little light: 0.6, 0.4 or 0.2 of it."""
    return _pixels(image * (0.8 - 0.2 * severity))


def reflections(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Light reflected by a wet wall: small bright spots, 12, 24 or 36 of them."""
    bright, side = np.zeros(image.shape[:2], np.float32), image.shape[0]
    for _ in range(_LIGHTS * severity):
        at = tuple(int(value) for value in rng.integers(0, side, 2))
        axes = tuple(int(value) for value in rng.integers(1, max(2, side // 24), 2))
        cv2.ellipse(bright, at, axes, float(rng.integers(0, 180)), 0, 360, 1.0, -1)
    share = cv2.GaussianBlur(bright, (0, 0), side / 128)[..., None]
    return _pixels(image * (1 - share) + 255 * share)


KINDS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "darkness": darkness,
    "reflections": reflections,
}


def corrupted(images: Pixels, kind: str, severity: int) -> Pixels:
    """`images` (N, S, S, 3) uint8, each made worse; the same every time, and independent of the others."""
    return np.stack(
        [KINDS[kind](image, severity, np.random.default_rng([severity, at])) for at, image in enumerate(images)]
    )


def _pixels(values: NDArray[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
