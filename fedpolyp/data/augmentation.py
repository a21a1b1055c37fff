"""Random changes to a training image and its mask, and the order of images in an epoch; a key fixes them all.

Cheap on purpose: one warp and one lookup table on uint8 cost a small part of the training step.
"""

import math
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

# Crop's side over the image's: from closer views to views from farther away.
CROP = 0.7, 1.2
# Largest shift of the crop's centre, over the image's side.
SHIFT = 0.1
# Largest change of contrast, of brightness (over 255) and of each channel's gain. The gain is a lamp's or camera's
# white balance and takes the place of hue: changing the hue itself would make mucosa green.
CONTRAST, BRIGHTNESS, GAIN = 0.25, 0.15, 0.12

_LEVELS = np.arange(256, dtype=np.float64)[:, np.newaxis]

# First word of the key, so that an epoch's order and its first image use different streams.
_ORDER, _IMAGE = 0, 1


def generator(seed: int, round: int, hospital: str, epoch: int, index: int) -> np.random.Generator:
    """The stream of random numbers of one image. It depends only on these five arguments, and is independent for
    different ones.

    Args:
        seed: the experiment's.
        round: of federation.
        hospital: its name.
        epoch: local epoch in the round.
        index: the image's place among the hospital's training images, before shuffling.
    """
    return _generator(_IMAGE, seed, round, hospital, epoch, index)


def shuffle_order(seed: int, round: int, hospital: str, epoch: int, count: int) -> NDArray[np.intp]:
    """The order in which a hospital's `count` training images are used in an epoch, (count,): 0..count-1 shuffled."""
    return _generator(_ORDER, seed, round, hospital, epoch, 0).permutation(count)


def augment(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`image` and `mask` flipped, rotated by any angle, cropped and shifted, and `image` recoloured.

    Beyond the edges, the image and its mask are mirrored.

    Args:
        image: (S,S,3) uint8.
        mask: (S,S) uint8 in {0,1}.
        rng: fixes every draw; takes the same number of them from it each time.

    Returns:
        New arrays like the two given, which stay as they were.
    """
    draws = rng.random(10)
    warp = _warp(draws[:5], len(image))
    recoloured = cv2.LUT(_warped(image, warp, cv2.INTER_LINEAR), _colours(draws[5:])).astype(np.uint8, copy=False)
    return recoloured, _warped(mask, warp, cv2.INTER_NEAREST)


def _generator(purpose: int, seed: int, round: int, hospital: str, epoch: int, index: int) -> np.random.Generator:
    # str's own hash() differs from process to process.
    return np.random.default_rng([purpose, seed, round, zlib.crc32(hospital.encode()), epoch, index])


def _warp(draws: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The (2,3) affine map from a pixel of the result to where in the image it is taken from."""
    flip, turn, crop, *shift = draws.tolist()
    # A rotation by any angle makes one flip enough: the other flip is this one rotated by 180 degrees.
    mirror = -1 if flip < 0.5 else 1
    scale = CROP[0] + (CROP[1] - CROP[0]) * crop
    cosine, sine = scale * math.cos(math.tau * turn), scale * math.sin(math.tau * turn)
    linear = np.array([[mirror * cosine, -sine], [mirror * sine, cosine]])
    centre = (side - 1) / 2
    offset = centre + SHIFT * side * (2 * np.array(shift) - 1) - linear @ (centre, centre)
    return np.column_stack([linear, offset])


def _warped(pixels: NDArray[np.uint8], warp: NDArray[np.float64], interpolation: int) -> NDArray[np.uint8]:
    size, flags = pixels.shape[1::-1], interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, warp, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.uint8, copy=False
    )


def _colours(draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The new value of each of the 256 levels in each channel, (1,256,3)."""
    draws = 2 * draws - 1
    contrast, brightness, gains = 1 + CONTRAST * draws[0], 255 * BRIGHTNESS * draws[1], 1 + GAIN * draws[2:]
    table: NDArray[np.float64] = ((_LEVELS - 127.5) * contrast + 127.5 + brightness) * gains
    return np.clip(table.round(), 0, 255).astype(np.uint8)[np.newaxis]
