"""A hospital's camera: how its lens, lamp, sensor and recorder change an image."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

Image = NDArray[np.uint8]

_NOISE = 5  # a stream of random numbers of its own
_Gain = Annotated[float, Field(ge=0.25, le=4)]


@dataclass(frozen=True)
class Camera:
    """One camera, applied in the order of its fields; the defaults change nothing except by rounding.

    Lengths are fractions of the image's side, so a camera is the same at every image size.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # unknown fields must not be ignored

    vignette: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the light that is lost in the corners
    blur: Annotated[float, Field(ge=0, le=0.1)] = 0.0  # standard deviation of the lens, fraction of the side
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # standard deviation of the sensor, fraction of full scale
    balance: tuple[_Gain, _Gain, _Gain] = (1.0, 1.0, 1.0)  # gains of red, green, blue
    gamma: Annotated[float, Field(ge=0.25, le=4)] = 1.0  # above 1: darker
    quality: Annotated[int, Field(ge=1, le=100)] | None = None  # of JPEG; None: not compressed
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of the noise

    def take(self, images: Image, ids: Sequence[str]) -> Image:
        """`images`, uint8 (N, S, S, 3) RGB, as this camera takes them; a new array.

        Each image's bits, and its noise, depend only on the camera, the image and its id.
        """
        light = _vignette(images.shape[1], self.vignette)
        table = _table(self.gamma)
        taken = np.empty(images.shape, np.uint8)
        for row, id in enumerate(ids):
            taken[row] = self._one(np.asarray(images[row]), id, light, table)
        return taken

    def _one(self, image: Image, id: str, light: NDArray[np.float32], table: Image) -> Image:
        import cv2

        seen: NDArray[Any] = image.astype(np.float32) * light
        if self.blur > 0:
            seen = cv2.GaussianBlur(seen, (0, 0), self.blur * image.shape[0])
        if self.noise > 0:
            rng = np.random.default_rng([self.seed, _NOISE, zlib.crc32(id.encode())])
            seen = seen + np.float32(255 * self.noise) * rng.standard_normal(seen.shape, np.float32)
        seen = seen * np.array(self.balance, np.float32)
        recorded: Image = table[np.clip(np.rint(seen), 0, 255).astype(np.uint8)]
        if self.quality is not None:
            _, encoded = cv2.imencode(".jpg", recorded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            recorded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
        return recorded

    def __str__(self) -> str:
        """How the camera differs from a neutral one, in words; '' for nothing."""
        red, green, blue = self.balance
        said = [
            f"gains {red:.2f} {green:.2f} {blue:.2f}" if self.balance != (1.0, 1.0, 1.0) else "",
            f"gamma {self.gamma:.2f}" if self.gamma != 1 else "",
            f"blur {self.blur:.1%}" if self.blur else "",
            f"noise {self.noise:.1%}" if self.noise else "",
            f"vignette {self.vignette:.0%}" if self.vignette else "",
            "" if self.quality is None else f"JPEG {self.quality}",
        ]
        return ", ".join(filter(None, said))


def draw_cameras(count: int, strength: float, rng: np.random.Generator) -> tuple[Camera, ...]:
    """`count` cameras. Each property is spread evenly over them, so that they differ whatever the seed.

    Args:
        count: how many.
        strength: from 0, where all are neutral, to 1, about as different as endoscopes in published collections.
        rng: the only source of randomness.
    """
    steps = np.linspace(-1, 1, count) if count > 1 else rng.uniform(-1, 1, 1)
    warmth, green, dark, soft, grain, corner, coarse = (strength * rng.permutation(steps) for _ in range(7))
    seeds = rng.integers(0, 2**32, count)
    if strength == 0:
        return (Camera(),) * count
    return tuple(
        Camera(
            vignette=_share(0.6, corner[k], strength),
            blur=_share(0.015, soft[k], strength),
            noise=_share(0.05, grain[k], strength),
            balance=(_gain(0.25 * warmth[k]), _gain(0.12 * green[k]), _gain(-0.25 * warmth[k])),
            gamma=_gain(0.4 * dark[k]),
            quality=round(95 - 80 * _share(1, coarse[k], strength)),
            seed=int(seeds[k]),
        )
        for k in range(count)
    )


def _share(most: float, step: float, strength: float) -> float:
    """Between 0 for the least and `most` for the greatest of the steps in [-strength, strength], at full strength."""
    return round(float(most * (step + strength) / 2), 5)


def _gain(logarithm: float) -> float:
    return round(float(np.exp(logarithm)), 4)


def _vignette(side: int, lost: float) -> NDArray[np.float32]:
    """How much light reaches each pixel, (S, S, 1): 1 in the middle, 1 - `lost` in the corners."""
    along = (np.arange(side, dtype=np.float64) + 0.5) / side * 2 - 1
    squared = (along[:, None] ** 2 + along**2) / 2
    return (1 - lost * squared).astype(np.float32)[..., None]


def _table(gamma: float) -> Image:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
