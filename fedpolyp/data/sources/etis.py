"""ETIS-Larib (Silva et al., IJCARS 2014) as published: frame `1.tif`, its mask `p1.tif` in `Ground Truth/`."""

from fedpolyp.data.sources.colondb import number, number_after_p
from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "ETIS-LaribPolypDB"
LOOKS_FOR = "ETIS-LaribPolypDB/ and 'Ground Truth'/"


def parts(tree: Tree) -> list[Part]:
    """Its frames, which are in a folder with the set's name."""
    if not tree.has(NAME, "Ground Truth"):
        return []
    return [Part(NAME, "Ground Truth", image_key=number, mask_key=number_after_p)]
