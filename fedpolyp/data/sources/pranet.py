"""PraNet's collection (Fan et al., MICCAI 2020): `TrainDataset/` of two sets mixed, `TestDataset/` of five."""

from fedpolyp.data.sources import clinicdb
from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "PraNet"
LOOKS_FOR = "TrainDataset/ or TestDataset/"
_TRAIN, _TEST = "TrainDataset", "TestDataset"


def parts(tree: Tree) -> list[Part]:
    """Its images; the set from which an image was taken is its hospital."""
    if tree.name == _TRAIN:
        return _train(tree, "")
    if tree.name == _TEST:
        return _test(tree, "")
    # Unpacked, they are often in a second folder of the same name.
    train, test = (next((f for f in (f"{n}/{n}", n) if tree.has(f)), "") for n in (_TRAIN, _TEST))
    return [*(_train(tree, f"{train}/") if train else []), *(_test(tree, f"{test}/") if test else [])]


def _train(tree: Tree, inside: str) -> list[Part]:
    images = next((name for name in ("image", "images") if tree.has(f"{inside}{name}")), "")
    masks = next((name for name in ("mask", "masks") if tree.has(f"{inside}{name}")), "")
    if not images or not masks:
        return []
    return [
        Part(f"{inside}{images}", f"{inside}{masks}", prefix="train/", group=clinicdb.sequence, center_of=_taken_from)
    ]


def _taken_from(stem: str) -> str:
    """ClinicDB's frames are named by numbers, Kvasir-SEG's by letters and numbers."""
    return clinicdb.NAME if clinicdb.sequence(stem) else "Kvasir"


def _test(tree: Tree, inside: str) -> list[Part]:
    found = []
    for name in tree.folders(inside):
        images, masks = f"{inside}{name}/images", f"{inside}{name}/masks"
        if tree.has(images, masks):
            own = {"group": clinicdb.sequence} if name == clinicdb.NAME else {}
            found.append(Part(images, masks, name, f"test/{name}/", **own))
    return found
