"""What a source contains: pairs of an image and its mask, their files, and files that do not form a pair."""

import unicodedata
from dataclasses import dataclass

from fedpolyp.data.store import Rejection


@dataclass(frozen=True)
class File:
    """A file of a source, with what shows a change without reading it."""

    folder: str  # path of its images or masks folder in the source's folder; '' for the source's folder
    name: str  # path in that folder
    size: int  # bytes
    mtime_ns: int
    fault: str  # why it cannot be used; '' if no reason is known yet

    @property
    def path(self) -> str:
        """Its path in the source's folder."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # within the source
    image: str  # path in the source's folder
    mask: str  # the same for the mask; '' for a frame that has no polyp by its layout
    center: str = ""  # hospital, in a source of several; '' for none
    groups: tuple[str, ...] = ()  # labels of patient, procedure or video; images that share one stay together
    patient: str = ""  # names the patient, as it is written; '' if it is not known

    @property
    def named(self) -> str:
        """The file that stands for the pair in a sentence about its mask."""
        return self.mask or self.image


@dataclass(frozen=True)
class Listing:
    """The contents of a source."""

    layout: str  # the layout that was recognized
    folders: tuple[str, ...]  # of images and of masks, paths in the source's folder
    files: tuple[File, ...]  # in the order of their paths
    pairs: tuple[Pair, ...]  # in the order of their ids
    rejected: tuple[Rejection, ...]  # one for each pair, file or subfolder that is not used
    notes: tuple[str, ...] = ()  # about the groups


def spelling(label: str) -> str:
    """`label` without what may differ between spellings of one name: case, spaces, width, invisible characters.

    Images whose labels have one spelling stay together, because they may be one patient's. They are not counted as one
    patient, because they may be two.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    return "".join(char for char in folded if not char.isspace() and unicodedata.category(char) != "Cf")
