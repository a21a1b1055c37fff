"""What a comparison found, in sentences that claim no more than the numbers do."""

from collections.abc import Iterable

from fedpolyp.experiment.analysis import LOCAL, POOLED, Analysis, Arm, Difference
from fedpolyp.experiment.statistics import SEEDS_NEEDED

_NAMES = {POOLED: "Pooled", LOCAL: "Local", "fedavg": "FedAvg", "fedprox": "FedProx"}
_TRAINING = {POOLED: "pooled training", LOCAL: "training at each hospital alone"}


def name(label: str) -> str:
    """An arm's name as it is printed."""
    return _NAMES.get(label, label)


def answer(analysis: Analysis) -> str:
    """The comparison in one sentence."""
    federated = [arm for arm in analysis.arms if arm.federated] or list(analysis.arms[-1:])
    images = f"{len(analysis.partition.heldout)} images that no hospital has seen"
    parts = []
    for place, arm in enumerate(federated):
        compared = _compared(analysis, [found for found in analysis.differences if found.arm == arm.label])
        dice = arm.last["dice"]
        reached = (
            f"{dice.value:.3f}" if compared else f"{dice.value:.3f} (95 % interval {dice.low:.3f} to {dice.high:.3f})"
        )
        start = f"reaches a mean Dice of {reached} on {images}" if place == 0 else f"reaches {reached}"
        parts.append(f"{name(arm.label)} {start}{compared}")
    return "; ".join(parts) + "."


def _compared(analysis: Analysis, differences: list[Difference]) -> str:
    clauses, alike = [], []
    for difference in differences:
        other = next(arm for arm in analysis.arms if arm.label == difference.other)
        against = f"{_TRAINING.get(other.label, name(other.label))} ({other.last['dice'].value:.3f})"
        found = difference.last.value
        if difference.claimed:
            clauses.append(f"{abs(found):.3f} {'more' if found > 0 else 'less'} than {against}")
        else:
            alike.append(against)
    if alike:
        clauses.append("not to be told apart from " + " nor from ".join(alike))
    return ": " + ", and ".join(clauses) if clauses else ""


def sentence(difference: Difference) -> str:
    """What is, and what is not, distinguishable from noise in one difference."""
    one, other, found = name(difference.arm), name(difference.other), difference.last
    numbers = f"{signed(found.value)} Dice, 95 % interval {signed(found.low)} to {signed(found.high)}"
    numbers += f", p {p_value(difference.p_adjusted)}"
    if difference.claimed:
        return f"{one} is {'better' if found.value > 0 else 'worse'} than {other}: {numbers}."
    if found.excludes_zero:
        return f"{one} against {other}: the interval leaves out 0 but the rank test disagrees, so no claim ({numbers})."
    return f"{one} and {other} cannot be told apart: the difference may be noise ({numbers})."


def remarks(analysis: Analysis) -> Iterable[str]:
    """What to keep in mind when reading the numbers."""
    shared = [difference.seeds for difference in analysis.differences]
    seeds = min(map(len, [*(arm.seeds for arm in analysis.arms), *shared]))
    if seeds < SEEDS_NEEDED:
        yield (
            f"With {'one seed' if seeds == 1 else f'{seeds} seeds'} the intervals cover which images were held out, "
            "not the chance in training: trained again with another seed, every arm would score a little differently."
        )
    seen = sorted(arm.cost.images for arm in analysis.arms)
    if seen[-1] > 1.01 * seen[0]:
        told = ", ".join(f"{name(arm.label)} {arm.cost.images:,.0f}" for arm in analysis.arms)
        yield f"The arms did not see equally many training images: {told}."
    one_rate = not any(difference.startswith("training.learning_rate ") for difference in analysis.unequal)
    if one_rate and len({arm.federated for arm in analysis.arms}) > 1:
        yield (
            f"All arms trained at learning rate {analysis.config.training.learning_rate:g}, which may suit an average "
            "of models and be too high for a single one."
        )
    if analysis.store is None:
        yield "The images are gone, so near-duplicates count as images of their own, which narrows the intervals."
    elif analysis.groups == 1:
        yield "The held-out images are all near-duplicates of each other: nothing can be said about other images."
    for difference in analysis.unequal:
        yield f"The runs differ in more than their arm: {difference}."


def best_round(arm: Arm) -> str:
    """'round 33' or 'rounds 12 to 38'."""
    first, last = arm.best_rounds[0], arm.best_rounds[-1]
    return f"round {first}" if first == last else f"rounds {first} to {last}"


def signed(value: float) -> str:
    """A difference with its sign, a true minus among them."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """'= 0.012' or '< 0.001'."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
