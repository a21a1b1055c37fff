"""CVC-EndoSceneStill (Vázquez et al., J. Healthcare Engineering 2017): CVC-300 and CVC-612, `bbdd/` and `gtpolyp/`."""

from fedpolyp.data.sources import clinicdb
from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "CVC-300"
LOOKS_FOR = "bbdd/ and gtpolyp/ (or CVC-300/ and CVC-612/ with these)"
_SETS = ("CVC-300", "CVC-612")


def parts(tree: Tree) -> list[Part]:
    """Its frames with the masks of polyps; CVC-612 is CVC-ClinicDB, whose sequences follow from the numbers."""
    if tree.has("bbdd", "gtpolyp"):
        return [_part(tree, "")]
    return [_part(tree.beneath(name), f"{name}/") for name in _SETS if tree.has(f"{name}/bbdd", f"{name}/gtpolyp")]


def _part(tree: Tree, inside: str) -> Part:
    center, images, masks = inside.rstrip("/"), f"{inside}bbdd", f"{inside}gtpolyp"
    if clinicdb.is_called(tree):
        return Part(images, masks, center, inside, group=clinicdb.sequence)
    return Part(images, masks, center, inside)
