"""Decides which of a pair's EXIF orientation tags to follow, so that the mask fits its image as it was drawn.

A tag tells a viewer to rotate the pixels. Most masks are drawn on the rotated image and saved without a tag, but some
programs ignore tags. The sizes of the two show which, if a quarter turn exchanges sides of different length.
"""

from typing import Any

from numpy.typing import NDArray

from fedpolyp.data.reading import Picture, turned


class Undecidable(Exception):
    """The pair does not show how its mask fits its image; the message says why."""


def lying_alike(image: Picture, mask: Picture) -> tuple[NDArray[Any], NDArray[Any]]:
    """The pixels of `image` and of `mask`, both rotated as their tags say or both as they are stored.

    Raises:
        Undecidable: both would fit, or neither.
    """
    if image.orientation == mask.orientation and image.pixels.shape[:2] == mask.pixels.shape[:2]:
        return turned(image.pixels, image.orientation), turned(mask.pixels, mask.orientation)
    ways = [
        (turned(image.pixels, image.orientation), turned(mask.pixels, mask.orientation)),
        (image.pixels, mask.pixels),
    ]
    fitting = [pair for pair in ways if pair[0].shape[:2] == pair[1].shape[:2]]
    if not fitting:
        height, width = image.pixels.shape[:2]
        theirs = f"{mask.pixels.shape[1]}x{mask.pixels.shape[0]}"
        raise Undecidable(f"the mask is {theirs} pixels, its image {width}x{height}")
    if len(fitting) == 2:
        raise Undecidable(
            f"the EXIF orientation of the image is {image.orientation}, that of its mask {mask.orientation}, and "
            "their sizes do not show whether to rotate them: save both without the tag"
        )
    return fitting[0]
