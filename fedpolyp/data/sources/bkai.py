"""BKAI-IGH NeoPolyp (Ngoc Lan et al., ISVC 2021): `train/` and `train_gt/`; red and green in the masks are polyps."""

from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "BKAI-IGH NeoPolyp"
LOOKS_FOR = "train/ and train_gt/"


def parts(tree: Tree) -> list[Part]:
    """Its images with masks; the masks of `test/` are not published."""
    if not tree.has("train", "train_gt"):
        return []
    # As Kaggle unpacks it, each folder contains another one of the same name.
    images, masks = (f"{name}/{name}" if tree.has(f"{name}/{name}") else name for name in ("train", "train_gt"))
    return [Part(images, masks)]
