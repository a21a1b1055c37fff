"""The colours of all pictures: Okabe and Ito's palette, which the colour-blind can tell apart."""

BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
YELLOW = "#F0E442"
SKY = "#56B4E9"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"

# Both stand out from red tissue, and from each other.
TRUTH, PREDICTION = SKY, YELLOW

_ARMS = {"pooled": BLUE, "local": GREEN, "fedavg": VERMILION, "fedprox": PURPLE}
_MARKERS = {"pooled": "s", "local": "^", "fedavg": "o", "fedprox": "D"}


def arm_colour(label: str) -> str:
    """An arm's colour, the same in every picture."""
    return _ARMS.get(label, ORANGE)


def arm_marker(label: str) -> str:
    """An arm's mark, which tells it from the others without any colour."""
    return _MARKERS.get(label, "v")
