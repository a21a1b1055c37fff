"""CVC-ColonDB (Bernal et al., Pattern Recognition 2012) as published: all in one folder; `p1.bmp` is the mask of
`1.bmp`.

It is not published which frames belong to which of its 15 sequences, so only near-duplicates are kept together.
"""

import os

from fedpolyp.data.reading import SUFFIXES
from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "CVC-ColonDB"
LOOKS_FOR = "1.bmp and p1.bmp, 2.bmp and p2.bmp and so on"


def number(stem: str) -> str | None:
    """The number in an image's name; None for another file (`s1`, `c1`: other annotations)."""
    return stem if stem.isascii() and stem.isdigit() else None


def number_after_p(stem: str) -> str | None:
    """The number of the image of which `p1` is the mask; None for another file."""
    return number(stem[1:]) if stem.startswith("p") else None


def parts(tree: Tree) -> list[Part]:
    """Its frames with the masks of polyps."""
    stems = {stem for stem, suffix in map(os.path.splitext, tree.names()) if suffix.lower() in SUFFIXES}
    both = any(number(stem) and f"p{stem}" in stems for stem in stems)
    return [Part("", "", image_key=number, mask_key=number_after_p)] if both else []
