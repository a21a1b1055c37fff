"""An image with the border of a model's prediction."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.report.style import PREDICTION

_THICK = 200  # a line is a 200th of the shorter side, two pixels at least


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of `image` (H, W, 3) RGB with the border of `mask` (H, W) in {0, 1}, edged with black."""
    drawn, width = np.ascontiguousarray(image).copy(), max(2, min(mask.shape) // _THICK)
    contours, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    colour = tuple(int(PREDICTION[place : place + 2], 16) for place in (1, 3, 5))
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), width + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, contours, -1, colour, width, cv2.LINE_AA)
    return drawn
