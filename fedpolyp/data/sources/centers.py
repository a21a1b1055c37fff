"""A folder for each hospital, as in PolypDB (Jha et al., 2024): each with `images/` and `masks/`.

A hospital's folder may contain a folder for each modality (WLI, NBI …) with these two.
"""

from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "folders of hospitals"
LOOKS_FOR = "a folder for each hospital, with images/ and masks/ in it or in its folders"
_POLYPDB = "PolypDB_center_wise"  # beside it are the same images by modality


def parts(tree: Tree) -> list[Part]:
    """The images of each hospital, named as its folder; a single folder does not count as a hospital."""
    top = f"{_POLYPDB}/" if tree.has(_POLYPDB) else ""
    found = []
    for center in tree.folders(top):
        inside = ["", *(f"{modality}/" for modality in tree.folders(f"{top}{center}"))]
        for folder in (f"{center}/{one}" for one in inside):
            if tree.has(f"{top}{folder}images", f"{top}{folder}masks"):
                found.append(Part(f"{top}{folder}images", f"{top}{folder}masks", center, folder))
    return found if len({part.center for part in found}) > 1 else []
