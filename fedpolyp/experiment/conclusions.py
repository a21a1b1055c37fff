"""What a comparison found, in sentences that claim no more than the numbers do."""

from collections.abc import Iterable

from fedpolyp.config import AlgorithmConfig, label_of, rate_of
from fedpolyp.experiment.findings import LOCAL, POOLED, Analysis, Arm, Difference
from fedpolyp.experiment.scores import LAST, OWN
from fedpolyp.experiment.statistics import SEEDS_NEEDED

# As the papers write them. No other arm may have these names: see `fedpolyp.config.Config`.
_NAMES = {
    POOLED: "Pooled",
    LOCAL: "Local",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedavgm": "FedAvgM",
    "fedadagrad": "FedAdagrad",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "scaffold": "SCAFFOLD",
    "fedbn": "FedBN",
    "finetune": "Fine-tuned FedAvg",
    "median": "Median",
    "trimmed-mean": "Trimmed mean",
    "krum": "Krum",
    "multi-krum": "Multi-Krum",
    "cyclic": "Cyclic",
}
_TRAINING = {POOLED: "pooled training", LOCAL: "training at each hospital alone"}


def name(label: str) -> str:
    """An arm's name as it is printed: a built-in algorithm's as its paper writes it, otherwise the arm's label."""
    return _NAMES.get(label, label)


def tested(arm: Arm, kind: str) -> str:
    """An arm's name beside the scores on hospitals' own test images of its models of a `kind`, 'last' or 'own'."""
    whose = {LAST: ", global model", OWN: ", own models"}[kind] if arm.finetuned else ""
    return name(arm.label) + whose


def models(arm: Arm) -> str:
    """An arm's models, for pages that claim nothing about methods: 'the FedAvg model', 'the 3 pooled models'."""
    if arm.own_models:
        return "the hospitals' own models" + _called(arm)
    kind = POOLED if arm.algorithm.name == POOLED else name(arm.label)
    which = _called(arm) if kind == POOLED else ""
    return (f"the {kind} model" if len(arm.seeds) == 1 else f"the {len(arm.seeds)} {kind} models") + which


def training(arm: Arm) -> str:
    """The training of an arm, for pages about methods."""
    said = _TRAINING.get(arm.algorithm.name)
    return name(arm.label) if said is None else said + _called(arm)


def meanings(arms: Iterable[Arm]) -> Iterable[str]:
    """For each arm whose name does not say what it is: 'near is FedProx with mu 0.1', 'FedProx has mu 0.5'."""
    for arm in arms:
        label = label_of(arm.algorithm.name)
        own = ", ".join(f"{setting} {value}" for setting, value in arm.algorithm.own.items())
        if arm.label != label:
            yield f"{arm.label} is {name(label)}" + (f" with {own}" if own else "")
        elif arm.algorithm != AlgorithmConfig(name=arm.algorithm.name):
            yield f"{name(label)} has {own}"


def _called(arm: Arm) -> str:
    """An addition for an arm whose label is not its algorithm's name."""
    return "" if arm.label == arm.algorithm.name else f" called {arm.label}"


def answer(analysis: Analysis) -> str:
    """The comparison in one sentence: about methods if there are enough seeds, otherwise about these models."""
    federated = [arm for arm in analysis.arms if arm.federated] or list(analysis.arms[-1:])
    images = f"{len(analysis.partition.heldout)} images that no hospital has seen"
    parts = []
    for place, arm in enumerate(federated):
        compared = _compared(analysis, [one for one in analysis.differences if one.arm == arm.label and not one.among])
        dice = arm.last["dice"]
        reached = (
            f"{dice.value:.3f}" if compared else f"{dice.value:.3f} (95 % interval {dice.low:.3f} to {dice.high:.3f})"
        )
        who, verb = name(arm.label), "reaches"
        if not analysis.of_methods:
            several = arm.own_models or len(arm.seeds) > 1
            who = models(arm) + (" trained here" if place == 0 else "")
            verb = "reach" if several else "reaches"
        parts.append(f"{who} {verb} " + (f"a mean Dice of {reached} on {images}" if place == 0 else reached) + compared)
    said = "; ".join(parts) + "."
    return said[0].upper() + said[1:]


def _compared(analysis: Analysis, differences: list[Difference]) -> str:
    clauses, alike = [], []
    for difference in differences:
        other = next(arm for arm in analysis.arms if arm.label == difference.other)
        called = training(other) if analysis.of_methods else models(other)
        against = f"{called} ({other.last['dice'].value:.3f})"
        found = difference.last.value
        if difference.claimed:
            clauses.append(f"{abs(found):.3f} {'more' if found > 0 else 'less'} than {against}")
        else:
            alike.append(against)
    if alike:
        clauses.append("not significantly different from " + " or ".join(alike))
    return ": " + ", and ".join(clauses) if clauses else ""


def findings(analysis: Analysis) -> Iterable[str]:
    """A sentence for each difference; among federated arms one for each claimed difference, and one for the rest."""
    main = [one for one in analysis.differences if not one.among]
    among = [one for one in analysis.differences if one.among]
    alike = [one for one in among if not one.claimed]
    yield from map(sentence, main)
    yield from (sentence(one) for one in among if one.claimed)
    if len(alike) == 1:
        yield sentence(alike[0])
    elif alike:
        yield f"{len(alike)} of {len(among)} differences between two federated arms are not statistically significant."


def sentence(difference: Difference) -> str:
    """Whether one difference is statistically significant, with its numbers."""
    one, other, found = name(difference.arm), name(difference.other), difference.last
    verb, how = ("is", ("better", "worse")) if difference.of_methods else ("scores", ("higher", "lower"))
    one = one if difference.of_methods else f"As trained here, {one}"
    numbers = f"{signed(found.value)} Dice, 95 % interval {signed(found.low)} to {signed(found.high)}"
    numbers += f", p {p_value(difference.p_adjusted)}"
    if difference.claimed:
        return f"{one} {verb} {how[found.value < 0]} than {other}: {numbers}."
    if found.excludes_zero:
        return f"{one} against {other}: the interval excludes 0, but p is not below 0.05, so no claim ({numbers})."
    if difference.p_adjusted < 0.05:
        return f"{one} against {other}: p is below 0.05, but the interval includes 0, so no claim ({numbers})."
    return f"{one} and {other} do not differ significantly ({numbers})."


def remarks(analysis: Analysis) -> Iterable[str]:
    """What to keep in mind when reading the numbers."""
    if not analysis.of_methods:
        told = "one seed" if analysis.seeds == 1 else f"{analysis.seeds} seeds"
        yield (
            f"With {told} this page is about these models and claims nothing about methods: its intervals cover the "
            "choice of held-out images, not the randomness of training. With another seed every arm would score a "
            f"little differently. Methods are compared from {SEEDS_NEEDED} seeds on."
        )
    if told := "; ".join(meanings(analysis.arms)):
        yield f"What the arms are: {told}."
    if analysis.budgets_differ:
        told = ", ".join(f"{name(arm.label)} {arm.cost.images:,.0f}" for arm in analysis.arms)
        yield f"The arms did not see the same number of training images: {told}."
    for arm in analysis.arms:
        records = [record for run in arm.runs for record in run.rounds()]
        if lost := sum(bool(record.get("lost")) for record in records):
            of = len(records) - len(arm.runs)  # round 0 trains nothing
            yield f"{name(arm.label)} lost {lost} of {of} rounds, in which the model stayed as it was."
    one_rate = not any(difference.startswith("training.learning_rate ") for difference in analysis.unequal)
    if one_rate and len({arm.federated for arm in analysis.arms}) > 1:
        yield (
            f"All arms trained at learning rate {rate_of(analysis.config):g}, which may suit an average "
            "of models and be too high for a single one."
        )
    if analysis.store is None:
        yield "The images are gone, so near-duplicates count as separate images, which narrows the intervals."
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
