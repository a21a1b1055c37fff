"""The colours of all pictures: Okabe and Ito's palette, which colour-blind readers can tell apart; Tol's for more."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
YELLOW = "#F0E442"
SKY = "#56B4E9"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"

# Both stand out from red tissue, and from each other.
TRUTH, PREDICTION = SKY, YELLOW


@dataclass(frozen=True)
class Look:
    """The appearance of an arm in a picture: a colour, and a mark that also works without colour."""

    colour: str
    marker: str


_BUILT_IN = {
    "pooled": Look(BLUE, "s"),
    "local": Look(GREEN, "^"),
    "fedavg": Look(VERMILION, "o"),
    "fedprox": Look(PURPLE, "D"),
    "fedavgm": Look("#882255", "v"),
    "fedadagrad": Look("#AA4499", "<"),
    "fedadam": Look("#332288", ">"),
    "fedyogi": Look("#6699CC", "p"),
    "scaffold": Look(ORANGE, "P"),
    "fedbn": Look(SKY, "X"),
    "finetune": Look("#44AA99", "1"),
    "median": Look("#999933", "h"),
    "trimmed-mean": Look("#117733", "d"),
    "krum": Look("#661100", "*"),
    "multi-krum": Look("#CC6677", "8"),
    "cyclic": Look("#555555", "H"),
}
_OTHERS = [look for label, look in _BUILT_IN.items() if label not in ("pooled", "local", "fedavg", "fedprox")]


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """The look of each arm in pictures of all of `labels`.

    That of a built-in algorithm is always the same. Any other arm's follows from its label; if another arm of the
    pictures has that one, it is the next free one, so that no two are alike as long as there are enough.
    """
    wanted = list(labels)
    found = {label: _BUILT_IN[label] for label in wanted if label in _BUILT_IN}
    for label in sorted(set(wanted) - found.keys()):
        start = zlib.crc32(label.encode()) % len(_OTHERS)
        around = _OTHERS[start:] + _OTHERS[:start]
        found[label] = next((look for look in around if look not in found.values()), around[0])
    return found
