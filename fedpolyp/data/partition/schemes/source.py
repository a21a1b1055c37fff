"""`source`: each source of images is a hospital, or a group of hospitals."""

import re

import numpy as np
from pydantic import Field

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order
from fedpolyp.errors import UsageError
from fedpolyp.section import Section


class Source(Scheme):
    """A hospital for each source, with its name; or `per_source` hospitals, which share its images equally at random.

    Near-duplicates in two sources stay together: they go where most of them are. Each look of the phantom counts as a
    source.
    """

    sets_count = True

    class Settings(Section):
        """Of `[hospitals]`."""

        per_source: int = Field(1, ge=1, le=1000, description="source: how many hospitals each source is divided among")

    def names(self, groups: Groups, count: int) -> tuple[str, ...]:
        """See `Scheme`."""
        sources = [re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip(".-")[:40] or "source" for source in _all(groups)]
        if len(set(sources)) < len(sources):
            raise UsageError(f"two sources would be hospitals of one name: {', '.join(_all(groups))}; rename one")
        each = self.settings.per_source
        digits = len(str(each))
        if each == 1:
            return tuple(sources)
        return tuple(f"{source}-{number:0{digits}d}" for source in sources for number in range(1, each + 1))

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        each, of = self.settings.per_source, np.array(groups.source)
        hospital = np.empty(len(groups), dtype=np.intp)
        for place, source in enumerate(_all(groups)):
            rows = rng.permutation(np.flatnonzero(of == source))
            own = groups.some(rows)
            hospital[rows] = place * each + assign_in_order(np.arange(len(rows)), own, each)
        return hospital


def _all(groups: Groups) -> list[str]:
    return sorted(set(groups.source))
