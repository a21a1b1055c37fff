"""Decides what is lesion in a folder's masks: one rule for all of them, before any mask is used.

How a mask is read (its grey levels, its palette's indices, its alpha channel) and which values are lesion is the same
for the whole folder. This rule makes a mask binary at full size; only then is it resized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.config import AS_THEY_ARE, DataConfig
from fedpolyp.data.levels import NOISE, Histogram, Levels, Undecided, decide, far, guess, spans
from fedpolyp.data.reading import Picture

_ODD = 0.05  # of a mask's lesion: values that are no level may cover at most this


@dataclass(frozen=True)
class MaskSettings:
    """What the user says about the masks."""

    as_they_are: bool = False  # accept implausible masks
    values: tuple[int, ...] = ()  # lesion values; () to decide
    colours: tuple[tuple[int, int, int], ...] = ()  # lesion colours, RGB; () to decide

    @classmethod
    def of(cls, masks: str, lesion_values: str | None) -> "MaskSettings":
        """The settings from the words of a config or site.toml, where both were checked."""
        words = (lesion_values or "").split(",")
        colours = [word[1:] for word in words if word.startswith("#")]
        return cls(
            masks == AS_THEY_ARE,
            tuple(sorted(int(word) for word in words if word.isdigit())),
            tuple((int(word[:2], 16), int(word[2:4], 16), int(word[4:], 16)) for word in colours),
        )

    @classmethod
    def of_config(cls, config: DataConfig) -> "MaskSettings":
        """The settings from a config's [data] table."""
        return cls.of(config.masks, config.lesion_values)


UNSAID = MaskSettings()


class Reading(Enum):
    """How the pixels of a mask become one channel of values."""

    GREY = "grey level"  # the brightest channel of a colour; 0 where it is transparent
    INDEX = "palette index"
    ALPHA = "alpha channel"


@dataclass(frozen=True)
class Summary:
    """What must be known of one mask to decide about all."""

    depth: int  # bits, 8 or 16
    histograms: Mapping[Reading, Histogram]
    palette: Mapping[int, int] | None  # the colour, as one number, of each index in use; None without a palette
    opaque: tuple[int, int] | None  # range of the brightest channel, of 255, where it is not transparent

    @classmethod
    def of(cls, picture: Picture) -> "Summary":
        """The summary of the mask in `picture`."""
        pixels, palette, opaque = picture.pixels, None, None
        readings = [Reading.GREY]
        if picture.palette is not None:
            readings.append(Reading.INDEX)
            palette = {
                int(index): int.from_bytes(picture.palette[index].tobytes()) for index in np.flatnonzero(_used(pixels))
            }
        elif (alpha := _alpha(picture)) is not None and alpha.min() < 255 - NOISE:
            readings.append(Reading.ALPHA)
            seen = _to_8_bits(brightest(pixels))[alpha > NOISE]
            opaque = (int(seen.min()), int(seen.max())) if len(seen) else None
        values = {reading: _values(picture, reading) for reading in readings}
        return cls(
            16 if pixels.dtype == np.uint16 else 8,
            {reading: Histogram.of(one, picture.lossy, reading is Reading.INDEX) for reading, one in values.items()},
            palette,
            opaque,
        )


@dataclass(frozen=True)
class MaskRule:
    """The rule that says what is lesion in the masks of a folder."""

    by_index: bool
    by_alpha: bool
    levels: Mapping[int, Levels]  # by depth
    colours: tuple[tuple[int, int, int], ...] = ()  # lesion colours, whatever the levels
    undecided: str = ""  # why it was guessed and not decided, in words that follow on 'the masks'
    given: bool = False  # by the user

    @classmethod
    def of(cls, masks: Sequence[Summary], settings: MaskSettings) -> "MaskRule":
        """The rule for `masks`."""
        palettes = [mask.palette for mask in masks]
        colours: dict[int, set[int]] = {}
        for palette in palettes:
            for index, colour in (palette or {}).items():
                colours.setdefault(index, set()).add(colour)
        # An index that equals its grey level has no other meaning.
        grey = all(one == {index * 0x010101} for index, one in colours.items())
        by_index = None not in palettes and all(len(one) == 1 for one in colours.values()) and not grey
        seen = [mask.opaque for mask in masks if mask.opaque is not None]
        # If all visible pixels have one colour, the shape is in the transparent pixels.
        by_alpha = bool(seen) and max(high for _, high in seen) - min(low for low, _ in seen) <= NOISE
        rule = cls(by_index, by_alpha, {}, settings.colours, given=bool(settings.values or settings.colours))
        levels, undecided = {}, ""
        for depth in sorted({mask.depth for mask in masks}):
            everyone = [rule.histogram(mask) for mask in masks if mask.depth == depth]
            usable = [one for one in everyone if not one.many]
            try:
                levels[depth] = decide(usable, depth, settings.values)
            except Undecided as error:
                undecided, levels[depth] = "" if settings.colours else str(error), guess(everyone, depth)
            if not usable and not settings.values:
                levels[depth] = guess(everyone, depth)
        return cls(by_index, by_alpha, levels, settings.colours, undecided, rule.given)

    def reading(self, readings: Sequence[Reading] | Mapping[Reading, object]) -> Reading:
        """Which of the possible `readings` of a mask is used."""
        if self.by_index and Reading.INDEX in readings:
            return Reading.INDEX
        return Reading.ALPHA if self.by_alpha and Reading.ALPHA in readings else Reading.GREY

    def histogram(self, mask: Summary) -> Histogram:
        """The values of `mask` under this rule."""
        return mask.histograms[self.reading(mask.histograms)]

    def lesion(self, mask: Summary, picture: Picture) -> NDArray[np.uint8]:
        """255 where `picture`, summarised in `mask`, shows lesion, 0 elsewhere, (H, W) as it is stored."""
        if self.colours:
            pixels = _to_8_bits(_in_colour(picture)[..., :3])
            by = NOISE if picture.lossy else 0
            bounds = [(np.clip(np.array(c) - by, 0, 255), np.clip(np.array(c) + by, 0, 255)) for c in self.colours]
            found = [cv2.inRange(pixels, low, high) for low, high in bounds]
            return np.maximum.reduce([np.asarray(one, np.uint8) for one in found])
        values = _values(picture, self.reading(mask.histograms))
        table = self.levels[mask.depth].table(self.histogram(mask))
        return np.asarray(cv2.LUT(values, table), np.uint8) if mask.depth == 8 else table[values]

    def shows_lesion(self, mask: Summary) -> bool:
        """Whether `mask` has a value that is lesion."""
        histogram = self.histogram(mask)
        return bool(self.colours) or bool(self.levels[mask.depth].table(histogram)[histogram.values].any())

    def is_empty(self, mask: Summary) -> bool:
        """Whether `mask` is all background: the mask of a frame without a polyp."""
        lesion = not self.colours and self.shows_lesion(mask)
        return not lesion and not self.histogram(mask).values.any()

    def fault(self, mask: Summary) -> str:
        """Why `mask`, although it may show a lesion, does not fit the rule; '' if it fits."""
        histogram, levels = self.histogram(mask), self.levels[mask.depth]
        if histogram.many:
            return f"unknown: it has {len(histogram.values)} grey levels, as a photograph has"
        odd = far(histogram.values, np.array(sorted({*levels.values, *levels.edge}), np.int64)) & (histogram.areas > 0)
        lesion = histogram.counts[levels.table(histogram)[histogram.values] > 0].sum()
        if not self.colours and histogram.areas[odd].sum() > _ODD * lesion:
            return f"unknown: it has areas of {spans(histogram.values[odd].tolist())}; {self._meaning(mask)}"
        return ""

    def no_lesion(self, mask: Summary) -> str:
        """Why `mask`, which is not empty, has no lesion: none of its values has a known meaning."""
        histogram = self.histogram(mask)
        if self.given:
            return f"no lesion: its values are {spans(histogram.values.tolist())}; {self._meaning(mask)}"
        return (
            self._unknown_values(mask)
            or f"the mask is empty except for noise, with values up to {histogram.values[-1]}"
        )

    def unknown(self, mask: Summary) -> str:
        """Why `mask` is not understood, whether or not it shows a lesion; '' if it is."""
        return self.fault(mask) or ("" if self.given or self.shows_lesion(mask) else self._unknown_values(mask))

    def _unknown_values(self, mask: Summary) -> str:
        histogram = self.histogram(mask)
        other = histogram.values > 0
        if 2 * histogram.solid[other].sum() <= histogram.counts[other].sum():
            return ""
        return f"unknown: its values are {spans(histogram.values.tolist())}; {self._meaning(mask)}"

    def _meaning(self, mask: Summary) -> str:
        return "lesion has the colours given" if self.colours else f"in this folder, {self.levels[mask.depth]}"

    def __str__(self) -> str:
        if self.colours:
            return "lesion " + ", ".join(f"#{bytes(colour).hex()}" for colour in self.colours)
        reading = self.reading(list(Reading)).value
        words = [f"{levels}{f' in {depth} bits' * (len(self.levels) > 1)}" for depth, levels in self.levels.items()]
        return f"by {reading}: {'; '.join(words)}{' (as given)' * self.given}"


def _values(picture: Picture, reading: Reading) -> NDArray[Any]:
    if reading is Reading.INDEX:
        return picture.pixels
    if reading is Reading.ALPHA:
        return np.ascontiguousarray(picture.pixels[..., 3])
    if picture.palette is None and picture.pixels.ndim == 2:
        return picture.pixels
    values = brightest(_in_colour(picture))
    alpha = _alpha(picture)
    if alpha is not None:
        values[alpha <= NOISE] = 0
    return values


def _in_colour(picture: Picture) -> NDArray[Any]:
    """RGB or RGBA, whatever was stored."""
    if picture.palette is not None:
        return picture.palette[picture.pixels]
    return picture.pixels if picture.pixels.ndim == 3 else cv2.merge([picture.pixels] * 3)


def brightest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The brightest of red, green and blue; luminance would make pure red dark."""
    red, green, blue = cv2.split(pixels)[:3]
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _alpha(picture: Picture) -> NDArray[np.uint8] | None:
    """The alpha channel in 8 bits, if there is one."""
    pixels = picture.pixels
    return _to_8_bits(pixels[..., 3]) if pixels.ndim == 3 and pixels.shape[2] == 4 else None


def _to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else np.asarray(pixels, np.uint8)


def _used(indices: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(indices.ravel(), minlength=256)
