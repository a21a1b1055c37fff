"""Sources that stand for hospitals outside the federation: no hospital trains, validates or tests on their images."""

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

    A source is given by its name. The name of a source with several hospitals means all of them: `polypgen` means
    `polypgen-C1`, `polypgen-C2` and so on. An image with a near-duplicate in an unseen source is in neither result.

    Raises:
        UsageError: there is no source with such a name, or no other source is left.
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
    """A sentence for the images that `set_apart` found in `records`, and one for those that it left out."""
    said = ["unseen by all hospitals: " + ", ".join(f"{len(ids)} images of {name}" for name, ids in unseen.items())]
    if alike := len(records) - len(rest) - sum(map(len, unseen.values())):
        said.append(f"{alike} images are near-duplicates of unseen ones, and left out")
    return said
