"""The pictures that a user names: files, folders, patterns, and the frames of videos."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpolyp.data.reading import MAX_PIXELS, SUFFIXES, Unusable, decode_image, look, read, room_for, turned
from fedpolyp.errors import UsageError
from fedpolyp.text import printable

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
_COUNTED = (".avi", ".mov", ".mp4")  # their headers count the frames
_TIMED = (".mkv", ".webm")  # theirs give the length; of .mpg neither is known
_MISSING_SECONDS = 2.0  # sound may go on for longer than the pictures


@dataclass(frozen=True)
class Picture:
    """One image, upright, with its file."""

    file: str  # as the user named it; for a frame with its number: 'video.mp4#12'
    name: str  # unique, for files about it
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB


def files(named: Sequence[str], left_out: list[str]) -> list[Path]:
    """The files that are `named`, lie directly in a named folder, or match a named pattern; each once.

    Other files in a folder, except hidden ones, are added to `left_out`.

    Raises:
        UsageError: a name leads to nothing, or a folder has no picture in it.
    """
    found: dict[Path, None] = {}
    for name in named:
        path = Path(os.path.expanduser(name))
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
            own = [file for file in inside if file.suffix.lower() in (*SUFFIXES, *VIDEOS)]
            left_out += [printable(str(entry)) for entry in inside if entry not in own]
            if not own:
                hint = " (there is images/ in it: name that)" if (path / "images").is_dir() else ""
                allowed = ", ".join((*SUFFIXES, *VIDEOS))
                raise UsageError(
                    f"there is no picture or video in the folder {printable(name)}{hint}; allowed: {allowed}"
                )
        else:
            own = [path] if path.exists() else [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]
            if not own:
                raise UsageError(f"there is no file or folder {printable(name)}")
        found |= dict.fromkeys(own)
    return list(found)


def pictures(these: Sequence[Path], every: int, unusable: list[tuple[str, str]]) -> Iterator[Picture]:
    """The pictures in these files, one after the other; of a video every `every`-th frame, from the first.

    Unreadable ones are added to `unusable`, with the reason.
    """
    taken: set[str] = set()
    for path in these:
        try:
            for file, stem, pixels in _in_file(path, every):
                yield Picture(file, _free(stem, taken), pixels)
        except Unusable as error:
            unusable.append((printable(str(path)), error.rejection.reason))


def _in_file(path: Path, every: int) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    suffix = path.suffix.lower()
    if suffix in VIDEOS:
        yield from _frames(path, every)
        return
    if suffix not in SUFFIXES:
        raise Unusable(str(path), f"not one of {', '.join((*SUFFIXES, *VIDEOS))}")
    header = look(str(path), read(path.parent, path.name))
    with room_for(header):
        picture = decode_image(header)
    yield printable(str(path)), path.stem, np.asarray(turned(picture.pixels, picture.orientation), np.uint8)


def _frames(path: Path, every: int) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    if not path.is_file():
        raise Unusable(str(path), "not a regular file")
    video = cv2.VideoCapture(str(path))
    try:
        number, ended = 0, 0.0
        while True:
            there, frame = video.read() if number % every == 0 else (video.grab(), None)
            if not there:
                break
            ended = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if frame is not None:
                if frame.shape[0] * frame.shape[1] > MAX_PIXELS:
                    raise Unusable(str(path), f"its frames have over {MAX_PIXELS:,} pixels")
                yield (
                    f"{printable(str(path))}#{number}",
                    f"{path.stem}-{number:06d}",
                    np.ascontiguousarray(frame[..., ::-1]),
                )
            number += 1
        if not number:
            raise Unusable(str(path), "no frame of it can be decoded")
        promised, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), video.get(cv2.CAP_PROP_FPS)
        kind = path.suffix.lower()
        if kind in _COUNTED and promised - number > max(2, promised // 100):  # an edit list may hide a few
            raise Unusable(str(path), f"it is damaged: only {number} of its {promised} frames can be decoded")
        # OpenCV makes this number of frames from the length: frames of varying length are not as many.
        seconds = promised / rate if kind in _TIMED and rate > 0 else 0.0
        if seconds - ended > max(_MISSING_SECONDS, seconds / 100):
            raise Unusable(str(path), f"it is damaged: only {ended:.1f} of its {seconds:.1f} seconds can be decoded")
    finally:
        video.release()


def _free(stem: str, taken: set[str]) -> str:
    """A name made from `stem` that is not taken; it differs from others by more than upper and lower case."""
    stem = printable(stem, 120).replace("/", "_").lstrip(".") or "image"
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.lower())
    return name
