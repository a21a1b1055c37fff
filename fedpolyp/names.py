"""Rules for the names of hospitals and images: names become parts of paths and pages, and somebody else may write them.

These rules are only here: whatever reads a partition, a store's table or the records of rounds uses them.
"""

import re
from collections.abc import Iterable

from fedpolyp.text import printable

HOSPITAL = "1 to 63 letters, digits, spaces, dots, hyphens and underscores, and begins with a letter or digit"
_HOSPITAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,61}[A-Za-z0-9_-])?", re.ASCII)
_LONGEST_ID = 255  # the longest file name
# Control characters, bytes that are not UTF-8, line breaks, and characters that change the direction of writing.
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PARTS = re.compile(r"[/\\]")


def check_hospital(name: str) -> str:
    """`name`, if a hospital may have it.

    Raises:
        ValueError: it may not.
    """
    if not _HOSPITAL.fullmatch(name):
        raise ValueError(f"a hospital's name has {HOSPITAL}; got {shown(name)}")
    return name


def check_id(id: str) -> str:
    """`id`, if an image may have it: a file's name without its ending, with or without folders before it.

    Raises:
        ValueError: it may not.
    """
    if not id or len(id) > _LONGEST_ID:
        raise ValueError(f"an image's id has 1 to {_LONGEST_ID} characters; got {len(id)}: {shown(id)}")
    if UNFIT.search(id):
        raise ValueError(f"an image's id has no control characters; got {shown(id)}")
    if any(part in ("", ".", "..") for part in _PARTS.split(id)):
        raise ValueError(f"an image's id must not lead out of its folder; got {shown(id)}")
    return id


def shown(text: object, most: int = 80) -> str:
    """`text` in quotes, printable anywhere: see `printable`."""
    return f"'{printable(text, most)}'"


def shown_few(names: Iterable[str], most: int = 5) -> str:
    """The first of the sorted `names`, each `shown`, and '…' if there are more than `most`."""
    several = sorted(names)
    return ", ".join(map(shown, several[:most])) + (", …" if len(several) > most else "")
