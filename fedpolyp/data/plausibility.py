"""Stops if the masks of a folder look wrong as a whole, in one sentence, before anything is trained on them.

Of a hospital's thousand masks a few may be damaged; they are left out by name. But masks that are inverted, or
photographs, or copies of the images, would train a model to a good score on the wrong task.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.masks import MaskRule, Summary, brightest
from fedpolyp.data.pairs import Pair
from fedpolyp.data.reading import Unusable, decode_mask, look, read
from fedpolyp.errors import UsageError
from fedpolyp.text import printable

WAY_OUT = (
    "if they are right, give --masks as-they-are; if other values or colours are lesion, name them with "
    "--lesion-values (masks and lesion_values in site.toml and in [data] of a config)"
)
_TOO_MANY = 0.1  # of the masks: so many are not left out as damaged
_LOOKED_AT = 20  # images, to say what is wrong
_HALF = 0.5
_EXCHANGED = "as if lesion and background were exchanged"
_SAME = 8.0  # of 255, mean difference below which an image shows its mask
_BLACK = 64  # of 255; a 12-bit image saved in 16 bits stays below it, and any highlight of another image exceeds it


@dataclass(frozen=True)
class Shown:
    """What a pair's mask shows on its image."""

    file: str  # the mask, or the image if there is none
    image: str
    lesion_fraction: float  # at full size
    border_fraction: float  # share of the outermost pixels that are lesion
    same: bool  # the image shows the mask
    black: bool  # the image shows nothing
    digest: int  # of the mask in the store

    @classmethod
    def of(cls, pair: Pair, lesion: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> "Shown":
        """The facts about `lesion`, (H, W), a mask at full size; the store has `image` and `mask`."""
        border = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
        return cls(
            pair.named,
            pair.image,
            np.count_nonzero(lesion) / lesion.size,
            np.count_nonzero(border) / border.size,
            bool(mask.any()) and _shows(image, mask),  # a black frame without a polyp is not a copy
            bool(image.max() < _BLACK),
            hash(mask.tobytes()),
        )


def _shows(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bool:
    """Whether an image shows only its mask: in black and white, or with any two colours for its two values."""
    if cv2.absdiff(brightest(image), 255 * mask).mean() < _SAME:
        return True
    regions = [image[mask == value].astype(np.float32) for value in (0, 1)]
    if not all(map(len, regions)):
        return False
    lesion, background = colours = [region.mean(0) for region in regions]
    away = [np.abs(region - colour).sum() for region, colour in zip(regions, colours, strict=True)]
    return bool(sum(away) / image.size < _SAME and np.abs(lesion - background).max() > 2 * _SAME)


def check_values(folder: Path, masks: Mapping[Pair, Summary], rule: MaskRule) -> None:
    """Check the values of `masks`, from which `rule` was made.

    Raises:
        UsageError: they look wrong.
    """
    photographs = [pair for pair, mask in masks.items() if rule.histogram(mask).many]
    if len(photographs) > _TOO_MANY * len(masks):
        what = f"{_of(photographs, masks)} have many grey levels or colours, as photographs have"
        raise _wrong(folder, what + _hint(folder, photographs), photographs[0].mask)
    if rule.undecided:
        raise _wrong(folder, f"they {rule.undecided}", next(iter(masks)).mask)
    unknown = {pair: fault for pair, mask in masks.items() if (fault := rule.unknown(mask))}
    if len(unknown) > max(1, _TOO_MANY * len(masks)):
        first, fault = next(iter(unknown.items()))
        raise _wrong(folder, f"{_of(unknown, masks)} are unlike the others", f"{first.mask}: {fault}")


def check_empty(folder: Path, masks: Mapping[Pair, Summary], rule: MaskRule) -> None:
    """Check how many of `masks` are empty: frames without a polyp, which are few in most sets.

    Raises:
        UsageError: more than half of them are.
    """
    empty = [pair for pair, mask in masks.items() if rule.is_empty(mask)]
    if len(empty) > _HALF * len(masks):
        what = f"{_of(empty, masks)} are empty, as for frames without a polyp"
        raise _wrong(folder, what, empty[0].mask)


def check_lesions(folder: Path, shown: Sequence[Shown]) -> None:
    """Check what the masks show.

    Raises:
        UsageError: they look wrong.
    """
    same = [one for one in shown if one.same]
    if same:
        raise _wrong(folder, f"{_of(same, shown)} show the same as their images", same[0].file)
    fractions = [one.lesion_fraction for one in shown if one.lesion_fraction > 0]
    median = np.median(fractions) if fractions else 0.0
    if median > _HALF:
        large = _large(shown)
        what = f"in {_of(large, shown)} more than half of the image is lesion (median {median:.0%})"
        raise _wrong(folder, f"{what}, {_EXCHANGED}", large[0].file)
    whole = [one for one in shown if one.lesion_fraction == 1]
    if whole:
        raise _wrong(folder, f"in {_of(whole, shown)} every pixel is lesion", whole[0].file)
    inverted = _inverted(shown)
    if len(inverted) > _TOO_MANY * len(shown):
        what = f"in {_of(inverted, shown)} more than half of the border is lesion, {_EXCHANGED}"
        raise _wrong(folder, what, inverted[0].file)


def doubts_of_masks(shown: Sequence[Shown]) -> list[str]:
    """What is unusual in some or most of the masks, but may be right."""
    large, inverted = _large(shown), _inverted(shown)
    lesions = [one for one in shown if one.lesion_fraction > 0]  # empty masks are all the same
    digest, count = Counter(one.digest for one in lesions).most_common(1)[0] if lesions else (0, 0)
    alike = [one for one in lesions if one.digest == digest] if count > max(2, _HALF * len(lesions)) else []
    doubts = {
        "are more than half lesion": large,
        "are lesion on more than half of their border, as inverted masks are": inverted,
        "are the same": alike,
    }
    return [f"{_of(some, shown)} masks {what} (first: {some[0].file})" for what, some in doubts.items() if some]


def doubts_of_images(shown: Sequence[Shown]) -> list[str]:
    """What is unusual in some of the images."""
    black = [one for one in shown if one.black]
    what = f"images are nearly black, no pixel above {_BLACK - 1} of 255"
    return [f"{_of(black, shown)} {what} (first: {black[0].image})"] if black else []


def _large(shown: Sequence[Shown]) -> list[Shown]:
    return [one for one in shown if one.lesion_fraction > _HALF]


def _inverted(shown: Sequence[Shown]) -> list[Shown]:
    """Masks that are lesion in places where an image of a polyp hardly ever is.

    Of Kvasir-SEG's 998 masks, 28 are more than half lesion, up to 81 %, but none on more than 38 % of its border.
    """
    return [one for one in shown if one.border_fraction > _HALF]


def _hint(folder: Path, photographs: Sequence[Pair]) -> str:
    """What the images of some of these masks tell about the cause."""
    copies = masks = 0
    seen = photographs[:_LOOKED_AT]
    for pair in seen:
        with suppress(Unusable):
            image = read(folder, pair.image)
            copies += image == read(folder, pair.mask)
            summary = Summary.of(decode_mask(look(pair.image, image)))
            masks += not any(histogram.many for histogram in summary.histograms.values())
    if 2 * copies > len(seen):
        return ", and are the same files as their images"
    return ", while their images look like masks: images/ and masks/ may be exchanged" if 2 * masks > len(seen) else ""


def _of(some: Sized, everything: Sized) -> str:
    return f"{len(some)} of {len(everything)}"


def _wrong(folder: Path, what: str, first: str) -> UsageError:
    return UsageError(f"the masks in {printable(str(folder))} look wrong: {what} (first: {first}); {WAY_OUT}")
