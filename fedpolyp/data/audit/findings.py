"""What an audit can find, and how each is judged."""

from dataclasses import dataclass
from enum import Enum


class Weight(Enum):
    """How serious a finding is."""

    FAULT = "fault"  # something is wrong
    LOOK = "to judge by eye"  # it may be right
    NOTE = "note"  # worth knowing, not a fault


class Kind(Enum):
    """The kind of a finding: a name for tables, its weight, a heading, and how it is judged."""

    UNUSABLE = (
        "unusable",
        Weight.FAULT,
        "Files that cannot be used",
        "Damaged, without a partner, or of a kind that is not read.",
    )
    CHANGED = (
        "changed",
        Weight.FAULT,
        "Changed since they were ingested",
        "The SHA-256 of the files differs from the one that the last store of this folder has.",
    )
    LEAK = (
        "leak",
        Weight.FAULT,
        "Leaks between sets",
        "The same file, the same scene, or images of one patient, procedure or video are in two sets of the partition: "
        "a model would be tested on what it was trained on, or two hospitals share an image.",
    )
    SAME_FILE = ("same-file", Weight.FAULT, "The same file twice", "Two images have the same bytes.")
    SAME_SCENE = (
        "same-scene",
        Weight.FAULT,
        "The same scene twice",
        "Near-duplicates: the images are the same except for small differences, or at least 8 points of detail "
        "(SIFT, without text, highlights and border) match under one shift, rotation and scale. They must stay in one "
        "set.",
    )
    ALIKE = (
        "alike",
        Weight.LOOK,
        "Similar, but not the same scene by their details",
        "Thumbnails correlate above 0.96, so ingest keeps them together, too.",
    )
    SAME_MASK = (
        "same-mask",
        Weight.LOOK,
        "The same mask twice",
        "Two images that are not the same scene have the same mask, pixel by pixel at 256 pixels a side: one of them "
        "may have the mask of the other.",
    )
    EMPTY = (
        "empty",
        Weight.LOOK,
        "Empty masks",
        "No pixel is lesion: a frame without a polyp, or a lesion that nobody outlined.",
    )
    FULL = ("full", Weight.FAULT, "Full masks", "More than 99.5 % of the pixels are lesion.")
    GREY = (
        "grey",
        Weight.FAULT,
        "Grey or unknown masks",
        "They have many grey levels, as photographs have, or values unlike those of the folder's other masks.",
    )
    INVERTED = (
        "inverted",
        Weight.FAULT,
        "Masks that look inverted",
        "More than half of the outermost pixels are lesion.",
    )
    BEYOND = (
        "beyond",
        Weight.FAULT,
        "Masks beyond what the scope shows",
        "More than 2 % of the lesion is on the dark border around the image, or on a black inset: the mask is "
        "displaced, mirrored, or belongs to another image.",
    )
    EDGES = (
        "edges",
        Weight.FAULT,
        "Masks that do not follow the images' edges",
        "Along a lesion's outline the colours should change more than a little beside it. This is judged for the "
        "folder as a whole, by the median; single masks are shown to be judged by eye.",
    )
    DARK = ("dark", Weight.LOOK, "Nearly black images", "No pixel is brighter than 63 of 255.")
    SIZE = (
        "size",
        Weight.LOOK,
        "Unusual sizes",
        "More than 4 times as many pixels as the median image or fewer than a quarter, or more than 1.6 times as wide "
        "or as narrow.",
    )
    TEXT = (
        "text",
        Weight.NOTE,
        "Burned-in text",
        "At least five white glyphs in a line. Every finding is text; small text is often missed. Dates and names of "
        "patients are personal data.",
    )
    INSET = (
        "inset",
        Weight.NOTE,
        "Insets in a corner",
        "A black or green rectangle that covers a corner, as scopes draw one: a model may learn it.",
    )

    def __init__(self, label: str, weight: Weight, heading: str, about: str) -> None:
        self.label = label
        self.weight = weight
        self.heading = heading
        self.about = about


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: Kind
    said: str  # about these images
    ids: tuple[str, ...] = ()  # one or two images; none if the finding is about a file or the folder
    value: float | None = None  # by which it was judged, see the kind's explanation
    file: str = ""  # the file that the finding is about, if any
