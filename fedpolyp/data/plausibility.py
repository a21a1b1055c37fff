"""Stops where the masks of a folder look wrong as a whole, in one sentence, before anything is trained on them.

Of a hospital's thousand masks a few may be damaged; those are left out by name. But masks that are inverted, or
photographs, or the images once more, would train a model to a good score on the wrong task.
"""

from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpolyp.data.masks import MaskRule, Summary
from fedpolyp.data.pairs import Pair
from fedpolyp.data.reading import Unusable, decode_mask, look, read
from fedpolyp.errors import UsageError
from fedpolyp.text import printable

WAY_OUT = (
    "if they are meant so, say --masks as-they-are; if other values are lesion, or colours, name them with "
    "--lesion-values (masks and lesion_values in site.toml and in [data] of a config)"
)
_TOO_MANY = 0.1  # of the masks: as many cannot be left out as damaged
_LOOKED_AT = 20  # images, to say what is wrong


@dataclass(frozen=True)
class Shown:
    """What a pair's mask shows on its image."""

    file: str  # the mask
    lesion_fraction: float  # at full size
    same: bool  # the image shows the mask


def check_values(folder: Path, masks: Mapping[Pair, Summary], rule: MaskRule) -> None:
    """Look at the values of `masks`, by which `rule` was made.

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


def check_lesions(folder: Path, shown: Sequence[Shown]) -> None:
    """Look at what the masks show.

    Raises:
        UsageError: it looks wrong.
    """
    same = [one for one in shown if one.same]
    if same:
        raise _wrong(folder, f"{_of(same, shown)} show the same as their images", same[0].file)
    median = np.median([one.lesion_fraction for one in shown])
    if median > 0.5:
        large = [one for one in shown if one.lesion_fraction > 0.5]
        what = f"in {_of(large, shown)} more than half of the image is lesion (median {median:.0%})"
        raise _wrong(folder, f"{what}, as if lesion and background were exchanged", large[0].file)
    whole = [one for one in shown if one.lesion_fraction == 1]
    if whole:
        raise _wrong(folder, f"in {_of(whole, shown)} every pixel is lesion", whole[0].file)


def _hint(folder: Path, photographs: Sequence[Pair]) -> str:
    """What the images of some of these masks tell about how it came to it."""
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
