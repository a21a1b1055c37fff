"""Sources that stand for hospitals that take no part: no hospital trains, validates or tests on their images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedpolyp.errors import UsageError
from fedpolyp.names import shown

if TYPE_CHECKING:
    from fedpolyp.data.store import ImageRecord


def set_apart(
    records: Sequence["ImageRecord"], names: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], list["ImageRecord"]]:
    """The sorted ids of the images of each unseen source, and the records of the images that may be assigned.

    A source is meant by its name, and one with several hospitals with all of them: `polypgen` are `polypgen-C1`,
    `polypgen-C2` and so on. An image with a near-duplicate in an unseen source is in neither.

    Raises:
        UsageError: there is no source of a name, or no other one.
    """
    present = sorted({record.source for record in records})
    apart: set[str] = set()
    for name in names:
        meant = {source for source in present if source == name or source.startswith(f"{name}-")}
        if not meant:
            known = ", ".join(map(shown, present))
            raise UsageError(f"data.unseen: there is no source {shown(name)}; there are {known}")
        apart |= meant
    if apart == set(present):
        raise UsageError("data.unseen names every source: none is left for hospitals")
    unseen = {
        source: tuple(sorted(record.id for record in records if record.source == source)) for source in sorted(apart)
    }
    seen = {record.group for record in records if record.source in apart}
    return unseen, [record for record in records if record.source not in apart and record.group not in seen]


def unseen_notes(
    records: Sequence["ImageRecord"], unseen: Mapping[str, Sequence[str]], rest: Sequence["ImageRecord"]
) -> list[str]:
    """A sentence for what `set_apart` has made of `records`, and one for what it left out."""
    said = ["unseen by all hospitals: " + ", ".join(f"{len(ids)} images of {name}" for name, ids in unseen.items())]
    if alike := len(records) - len(rest) - sum(map(len, unseen.values())):
        said.append(f"{alike} images are near-duplicates of unseen ones, and left out")
    return said
