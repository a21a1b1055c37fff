"""How a hospital that annotates badly draws its masks: too large, displaced, or not at all."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

Mask = NDArray[np.uint8]

_ERRORS = 6  # a stream of random numbers of its own


@dataclass(frozen=True)
class Annotation:
    """What goes wrong with a hospital's masks, in this order; lengths are fractions of the image's side."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # unknown fields must not be ignored

    dilation: Annotated[float, Field(ge=-0.25, le=0.25)] = 0.0  # added to the mask all around; below 0: removed
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # how far the mask is displaced, in any direction
    missing: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability that a lesion is not annotated: the mask is empty
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def draw(self, masks: Mask, ids: Sequence[str]) -> Mask:
        """What this hospital draws where the true masks are `masks`, uint8 (N, S, S) in {0, 1}; a new array.

        Each mask's bits depend only on the annotation, the mask and the image's id.
        """
        drawn = np.empty(masks.shape, np.uint8)
        for row, id in enumerate(ids):
            drawn[row] = self._one(np.asarray(masks[row]), id)
        return drawn

    def _one(self, mask: Mask, id: str) -> Mask:
        import cv2

        rng = np.random.default_rng([self.seed, _ERRORS, zlib.crc32(id.encode())])
        angle, overlooked = rng.uniform(0, 2 * np.pi), rng.random() < self.missing
        if overlooked:
            return np.zeros_like(mask)
        side, drawn = mask.shape[0], mask
        radius = round(abs(self.dilation) * side)
        if radius:
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            drawn = np.asarray((cv2.dilate if self.dilation > 0 else cv2.erode)(drawn, disc), np.uint8)
        down, right = (round(self.shift * side * part) for part in (np.sin(angle), np.cos(angle)))
        if down or right:
            move = np.array([[1, 0, right], [0, 1, down]], np.float32)
            drawn = np.asarray(cv2.warpAffine(drawn, move, (side, side), flags=cv2.INTER_NEAREST), np.uint8)
        return drawn

    def __str__(self) -> str:
        """The errors, in words; '' for none."""
        said = [
            f"masks {'larger' if self.dilation > 0 else 'smaller'} by {abs(self.dilation):.1%}"
            if self.dilation
            else "",
            f"shifted by {self.shift:.1%}" if self.shift else "",
            f"{self.missing:.0%} missing" if self.missing else "",
        ]
        return ", ".join(filter(None, said))
