"""HyperKvasir (Borgli et al., Scientific Data 2020): its images with masks, in `segmented-images/`."""

from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "HyperKvasir"
LOOKS_FOR = "segmented-images/ with images/ and masks/"
_FOLDER = "segmented-images"


def parts(tree: Tree) -> list[Part]:
    """Its segmented images; other files of the set are ignored."""
    images, masks = f"{_FOLDER}/images", f"{_FOLDER}/masks"
    return [Part(images, masks)] if tree.has(images, masks) else []
