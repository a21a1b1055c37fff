"""Kvasir-SEG (Jha et al., MMM 2020), and any set laid out like it: `images/` and `masks/` with the same names."""

from fedpolyp.data.sources import clinicdb
from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "Kvasir-SEG"
LOOKS_FOR = "images/ and masks/ with files of the same stems"


def parts(tree: Tree) -> list[Part]:
    """Its images, in subfolders or not; in a folder called CVC-ClinicDB, sequences follow from the frames' numbers."""
    if not tree.has("images", "masks"):
        return []
    return [Part("images", "masks", group=clinicdb.sequence)] if clinicdb.is_called(tree) else [Part("images", "masks")]
