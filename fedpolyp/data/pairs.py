"""What a source holds: pairs of an image and its mask, the files they are made of, and what makes no pair."""

from dataclasses import dataclass

from fedpolyp.data.store import Rejection


@dataclass(frozen=True)
class File:
    """A file of a source, and what tells a changed one from an unchanged one without reading it."""

    folder: str  # path in the source's folder of the folder of images or masks it belongs to; '' for itself
    name: str  # path in that folder
    size: int  # bytes
    mtime_ns: int
    fault: str  # why it cannot be used; '' if nothing speaks against it yet

    @property
    def path(self) -> str:
        """Its path in the source's folder."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # within the source
    image: str  # path in the source's folder
    mask: str  # likewise; '' for a frame without a polyp, of which the layout says so
    center: str = ""  # of a source of several hospitals: which; '' for none
    groups: tuple[str, ...] = ()  # labels of patient, procedure or video; images that share one stay together

    @property
    def named(self) -> str:
        """The file that stands for the pair in a sentence about its mask."""
        return self.mask or self.image


@dataclass(frozen=True)
class Listing:
    """What a source holds."""

    layout: str  # as what it was recognised
    folders: tuple[str, ...]  # of images and of masks, paths in the source's folder
    files: tuple[File, ...]  # in the order of their paths
    pairs: tuple[Pair, ...]  # in the order of their ids
    rejected: tuple[Rejection, ...]  # one for each pair, file or subfolder that makes no pair
    notes: tuple[str, ...] = ()  # what is to be known of the groups
