"""What a scheme answers, checked: it may be somebody's own code, and a wrong answer would lose images in silence."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.partition import refuse_taken
from fedpolyp.data.partition.scheme import Rows, Scheme
from fedpolyp.errors import UsageError
from fedpolyp.names import check_hospital, shown

if TYPE_CHECKING:
    from fedpolyp.config import HospitalsConfig


def names_by(scheme: Scheme, groups: Groups, wanted: "HospitalsConfig") -> tuple[str, ...]:
    """The hospitals' names, all different.

    Raises:
        UsageError: two are the same, or a hospital cannot have the name.
    """
    names = tuple(scheme.names(groups, wanted.count))
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"the scheme {wanted.scheme} gives two hospitals the name {shown(twice)}")
    refuse_taken(names)
    try:
        for name in names:
            check_hospital(name)
    except ValueError as error:
        raise UsageError(f"the scheme {wanted.scheme}: {error}") from None
    return names


def assigned_by(
    scheme: Scheme, groups: Groups, hospitals: int, wanted: "HospitalsConfig", rng: Callable[[], np.random.Generator]
) -> Rows:
    """The hospital of each group, intp (G,) in 0..hospitals-1.

    Args:
        scheme: is asked; one that is not built in is asked again, and must answer the same.
        groups: G of them.
        hospitals: how many there are.
        wanted: names the scheme.
        rng: makes the generator, each time an equal one.

    Raises:
        UsageError: it is not possible, or the answer is something else, or differs from time to time.
    """
    found = np.asarray(scheme.assign(groups, hospitals, rng()))
    fits = found.shape == (len(groups),) and found.dtype.kind in "iu"
    if not fits or (len(found) and not 0 <= found.min() <= found.max() < hospitals):
        within = f" from {found.min()} to {found.max()}" if fits else ""
        raise UsageError(
            f"the scheme {wanted.scheme} must assign a whole number from 0 to {hospitals - 1} to each of {len(groups)} "
            f"groups; got {found.dtype} {found.shape}{within}"
        )
    if not wanted.built_in and not np.array_equal(found, scheme.assign(groups, hospitals, rng())):
        raise UsageError(
            f"the scheme {wanted.scheme} assigns differently each time: its only source of randomness must be rng"
        )
    return found.astype(np.intp)
