"""Processes of this machine: which have started which, and which are alive."""

import contextlib
from pathlib import Path


def descendants(parent: int) -> set[int]:
    """The processes that `parent` has started, those that they have started, and so on."""
    found: set[int] = set()
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found |= {child} | descendants(child)
    return found


def is_alive(process: int) -> bool:
    """Whether there is such a process, and it has not ended: one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
