"""What a run guarantees about privacy, and what it does not, in words."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fedpolyp.config import Config, PrivacyConfig
from fedpolyp.text import printable

NO_HELD_OUT = (
    "with privacy on, sites send no scores of their images: the coordinator needs a held-out set of its own "
    "(held_out in coordinator.toml, or --held-out-data)"
)
_MOST_PROMISED = 1000.0  # beyond this epsilon the noise is negligible
# What a guarantee is for, and how it is said to be there.
_UNITS = {
    "image": ("image among", "it was"),
    "group": ("group of near-duplicates among", "it was"),
    "patient": ("patient with images among", "these were"),
}
_DRAWN = "It holds as long as nobody learns which units a step had, nor how many: for instance from how long it took."
NO_SCORE = "it gives no noisy score: "  # and why, among the refused replies of a round
_DEVIATIONS = 1.96  # half of a 95 % interval of normal noise
_SIMULATED = "In this simulation the noise is derived from the seed: epsilon is computed, but nothing is protected."


def beginning(config: Config, simulated: bool) -> str:
    """The privacy of a run that begins, in a line; '' if there is none."""
    return "; ".join(filter(None, (_promised(config, simulated), _summed(config, simulated))))


def _summed(config: Config, simulated: bool) -> str:
    privacy = config.privacy
    if not privacy.secure_sums:
        return ""
    made = ", with keys derived from the seed" if simulated else ""
    return (
        f"secure sums: the coordinator reads sums of {privacy.secure_least} or more hospitals, no single update{made}"
    )


def _promised(config: Config, simulated: bool) -> str:
    privacy, rounds = config.privacy, config.federation.rounds
    if not privacy.on or not rounds:
        return ""
    shared = ""
    if privacy.sharers > 1:
        own = privacy.sigma(rounds) / math.sqrt(privacy.sharers)
        shared = f" of {privacy.sharers} hospitals, {own:.2f} of each"
    if privacy.epsilon > _MOST_PROMISED:
        return (
            f"privacy {privacy.mode}: none is guaranteed with epsilon {privacy.epsilon:g}, gradients are only clipped"
        )
    seeded = "; the noise is derived from the seed, so nothing is really protected" if simulated else ""
    scored = ""
    if privacy.scores:
        scored = f"; then one noisy test score of each hospital, with epsilon {privacy.score_epsilon:g} more"
    if privacy.drawn is None:
        how = f"sigma {privacy.sigma(rounds):.2f}{shared}"
    else:
        how = f"each step with {privacy.drawn} units of a hospital on average, drawn independently"
    return (
        f"privacy {privacy.mode}: epsilon {privacy.epsilon:g} at delta {privacy.delta:g} in {rounds} rounds, {how}"
        f"{scored}{seeded}"
    )


def spent(record: Mapping[str, Any]) -> str:
    """The epsilon spent by the hospitals of a round's record: '3.95', or '2.50 to 3.95'; '' without privacy."""
    every = _spent([record])
    if not every:
        return ""
    least, most = f"{min(every):.2f}", f"{max(every):.2f}"
    return most if least == most else f"{least} to {most}"


def paragraph(config: Config, records: Iterable[Mapping[str, Any]], simulated: bool) -> str:
    """What a run's guarantee covers, and against whom; '' without privacy."""
    privacy, every = config.privacy, _spent(records)
    if not privacy.on or not every:
        return ""
    if max(every) > _MOST_PROMISED:
        clipped = f"Gradients were clipped, but with epsilon {max(every):.3g} the noise is negligible."
        return f"Privacy: none is guaranteed. {clipped}"
    unit, there = _UNITS[privacy.unit]
    images = "training and test images" if privacy.scores else "training images"
    said = [
        f"Privacy: epsilon {max(every):.2f} at delta {privacy.delta:g} for each {unit} a hospital's {images}. "
        f"This bounds what anybody can learn about whether {there} among them from the model and from all that the "
        "hospital sent: the coordinator, the other hospitals, and everybody who gets the model.",
        *([_scored(privacy)] if privacy.scores else []),
        *([_joint(privacy)] if privacy.mode == "joint" else []),
        *([_DRAWN] if privacy.drawn is not None else []),
        "It does not hide what a hospital's images have in common, and does not cover the held-out set.",
        "Every further run on the same images spends more epsilon, and so does tuning.",
        "It relies on the program at the hospital, which the coordinator ships. Floating-point noise is not exactly "
        "Gaussian.",
        *([_SIMULATED] if simulated else []),
    ]
    return " ".join(said)


def noisy_scores(record: Mapping[str, Any]) -> dict[str, str]:
    """The noisy scores in the record of a last round, by hospital: '0.71 ± 0.05', a 95 % interval of the noise alone.

    Only what is shown is clipped to [0, 1].
    """
    return {
        name: f"{min(1.0, max(0.0, own['noisy_test_dice'])):.2f} ± {_DEVIATIONS * own['noise_deviation']:.2f}"
        for name, own in sorted(record["hospitals"].items())
        if own.get("noisy_test_dice") is not None and own.get("noise_deviation") is not None
    }


def scores(last_records: Mapping[str, Mapping[str, Any]], simulated: bool) -> str:
    """The noisy scores in the last records of runs, what they mean, and who gave none; '' if none was asked for.

    Args:
        last_records: of each run, by a name that is put before its scores if there are several.
        simulated: whether the runs are simulations.
    """
    found, missing = list[str](), list[str]()
    for run, record in last_records.items():
        named = f"{run}: " if len(last_records) > 1 else ""
        if own := noisy_scores(record):
            found.append(named + ", ".join(f"{name} {score}" for name, score in own.items()))
        if none := [one for one in record["refused"] if one["reason"].startswith(NO_SCORE)]:
            told = "; ".join(f"{one['hospital']} ({one['reason'].removeprefix(NO_SCORE)})" for one in none)
            missing.append(f"{named}{told}")
    said = []
    if found:
        said += [
            f"Mean Dice of the last model on each hospital's own test images, with noise: {'; '.join(found)}.",
            "± is the 95 % interval of the noise alone, not of the choice of images.",
        ]
    if found and not simulated:
        said.append(
            "Each site has divided by the number of test units that it declares, so a wrong number shifts its score."
        )
    if missing:
        said.append(f"No score from {'; '.join(missing)}.")
    return printable(" ".join(said))


def _scored(privacy: PrivacyConfig) -> str:
    """What a noisy score adds."""
    own = "; hospitals share no part of it" if privacy.mode == "joint" else ""
    return (
        f"Where a hospital gave a score of its test images, this is included: alone it has epsilon "
        f"{privacy.score_epsilon:g}, and its noise is the hospital's own{own}."
    )


def _joint(privacy: PrivacyConfig) -> str:
    """Under which conditions the guarantee of joint noise holds."""
    kinds = {
        0: "no hospital helps the coordinator",
        1: "at most one hospital helps the coordinator, or is curious itself",
    }
    few = kinds.get(privacy.colluders, f"at most {privacy.colluders} hospitals help the coordinator")
    return (
        f"It holds as long as {few}: a sum of {privacy.secure_least} or more hospitals has the noise of the "
        f"{privacy.sharers} or more others in it. A hospital that leaves out its share counts as one that helps. "
        "A lost hospital does not make the noise smaller than that."
    )


def _spent(records: Iterable[Mapping[str, Any]]) -> list[float]:
    everyone = (own for record in records for own in record["hospitals"].values())
    return [own["epsilon"] for own in everyone if own.get("epsilon") is not None]
