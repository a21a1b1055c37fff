"""PolypGen (Ali et al., Scientific Data 2023): six centers, and sequences with a polyp in some frames or in none.

Frames in `sequenceData/negativeOnly/` have no mask: there is no polyp in them. `imagesAll_positive/` are copies.
"""

import re

from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "PolypGen"
LOOKS_FOR = "data_C1/ with images_C1/ and masks_C1/, to data_C6/, and sequenceData/"
_CENTERS = tuple(f"C{number}" for number in range(1, 7))
_SEQUENCE = re.compile(r"seq\d+")
_CENTER = re.compile(r"(C[1-6])(?![0-9A-Za-z])")


def parts(tree: Tree) -> list[Part]:
    """Its single frames and its sequences; the center of a sequence is known if the names of its frames show it."""
    found = [
        Part(f"data_{center}/images_{center}", f"data_{center}/masks_{center}", center, f"{center}/", _image, _mask)
        for center in _CENTERS
        if tree.has(f"data_{center}/images_{center}", f"data_{center}/masks_{center}")
    ]
    for name in tree.folders("sequenceData/positive"):
        images, masks = (f"sequenceData/positive/{name}/{kind}_{name}" for kind in ("images", "masks"))
        if _SEQUENCE.match(name) and tree.has(images, masks):
            found.append(_sequence(images, masks, name))
    found += [
        _sequence(f"sequenceData/negativeOnly/{name}", None, name)
        for name in tree.folders("sequenceData/negativeOnly")
        if _SEQUENCE.match(name)
    ]
    return found


def _sequence(images: str, masks: str | None, name: str) -> Part:
    return Part(images, masks, "", f"{name}/", _image, _mask, lambda _: f"PolypGen {name}", _center)


def _image(stem: str) -> str | None:
    return stem.rstrip("_")  # some images of C3 end in an underscore that their masks lack


def _mask(stem: str) -> str | None:
    return stem.removesuffix("_mask").rstrip("_")


def _center(stem: str) -> str:
    told = _CENTER.match(stem)
    return told[1] if told else "sequences"
