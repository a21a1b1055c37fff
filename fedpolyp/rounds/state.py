"""The server's state from round to round: an algorithm makes new arrays of those that it has, and changes none of them.

What is checked here is what an algorithm of somebody's own may get wrong. It would otherwise be found too late: a state
that cannot be resumed from, or old weights that are sent because the arrays in place of them look the same.
"""

from typing import Any

import numpy as np

from fedpolyp.aggregation.aggregate import Combined
from fedpolyp.algorithms.base import Algorithm, Groups, Start, models
from fedpolyp.archives import joined
from fedpolyp.errors import FinalError


def begun(algorithm: Algorithm, start: Start) -> Groups:
    """The state before the first round.

    Raises:
        FinalError: it could not be saved, and read again.
    """
    state = algorithm.begin(start)
    try:
        joined(state)
    except ValueError as error:
        raise _wrong(algorithm, f"begins with what cannot be saved: {error}") from None
    if empty := sorted(group for group, arrays in state.items() if not arrays):
        raise _wrong(algorithm, f"begins with the group {empty[0]}, which has no arrays; begin fixes all that there is")
    if not models(state):
        raise _wrong(algorithm, f"begins without a model; its groups are {', '.join(sorted(state))}")
    return held(state)


def held(state: Groups) -> Groups:
    """`state`, whose arrays can no longer be written to: whoever sees them cannot change the rounds that follow."""
    for arrays in state.values():
        for array in arrays.values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    return state


def combined(algorithm: Algorithm, state: Groups, updates: Combined) -> Groups:
    """The state after the `updates` of a stage.

    Raises:
        ValueError: the algorithm cannot combine them.
        FinalError: the algorithm changes `state`.
    """
    before = {group: (arrays, dict(arrays)) for group, arrays in state.items()}
    after = algorithm.combine(state, updates)
    for group, (arrays, known) in before.items():
        same = state.get(group) is arrays and arrays.keys() == known.keys()
        if not same or any(arrays[name] is not known[name] for name in known):
            raise _wrong(algorithm, "changes the state that its combine receives; it must return new arrays")
    if state.keys() != before.keys():
        raise _wrong(algorithm, "changes the state that its combine receives; it must return new arrays")
    return held(after)


def refuse_unlike(algorithm: Algorithm, before: Groups, after: Groups) -> None:
    """Refuse a state `after` a round with other groups, names, shapes or types than `before` it.

    Between the stages of a round there may be more.

    Raises:
        FinalError: it has others.
    """
    if after.keys() != before.keys():
        raise _wrong(
            algorithm, f"began with the groups {', '.join(sorted(before))}, and makes {', '.join(sorted(after))}"
        )
    for group, arrays in before.items():
        one, other = ({name: _kind(array) for name, array in own.items()} for own in (arrays, after[group]))
        if one != other:
            differing = next(iter(sorted(one.keys() ^ other.keys()) or [n for n in one if one[n] != other[n]]))
            was, now = (own.get(differing, "nothing") for own in (one, other))
            raise _wrong(algorithm, f"makes {now} of {was}: array {differing} of the group {group}")


def _kind(array: Any) -> str:
    """'float32 (3, 3, 8, 16)'."""
    return f"{np.asarray(array).dtype} {np.shape(array)}"


def _wrong(algorithm: Algorithm, what: str) -> FinalError:
    return FinalError(f"the algorithm {type(algorithm).__name__} {what}")
