"""CVC-ClinicDB (Bernal et al., CMIG 2015): 612 frames of 29 sequences, in `Original/` and `Ground Truth/`."""

from bisect import bisect_left

from fedpolyp.data.sources.part import Part
from fedpolyp.data.sources.tree import Tree

NAME = "CVC-ClinicDB"
LOOKS_FOR = "Original/ and 'Ground Truth'/"
_NAMES = ("cvc-clinicdb", "cvc-612")
_MASKS = "Ground Truth"

# The last frame of each sequence, as its authors list them at https://polyp.grand-challenge.org/CVCClinicDB/. Taken
# from two copies that agree: the table of https://datasetninja.com/cvc-612, and that of a published code of a split.
LAST_FRAMES = (
    *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
    *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)


def sequence(stem: str) -> str:
    """The sequence of the frame `stem`, a number: 'sequence 1' to 'sequence 29'; '' if it is not a number."""
    if not (stem.isascii() and stem.isdigit()) or not 1 <= int(stem) <= LAST_FRAMES[-1]:
        return ""
    return f"CVC-ClinicDB sequence {1 + bisect_left(LAST_FRAMES, int(stem))}"


def is_called(tree: Tree) -> bool:
    """Whether a folder has the set's name, so that numbers in it are those of its frames."""
    return tree.name.lower() in _NAMES


def parts(tree: Tree) -> list[Part]:
    """Its frames, each once: the PNG if there are PNG and TIFF."""
    for inside in ("", "PNG/", "TIF/"):
        images, masks = f"{inside}Original", f"{inside}{_MASKS}"
        if tree.has(images, masks):
            return [Part(images, masks, group=sequence)]
    return []
