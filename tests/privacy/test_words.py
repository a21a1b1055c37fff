"""What a run says of its privacy."""

from typing import Any

import pytest

from fedpolyp.config import load
from fedpolyp.privacy.words import NO_SCORE, beginning, noisy_scores, paragraph, scores

PRIVATE = {"privacy.mode": "local", "algorithm.name": "fedadam", "model.normalization": "group"}


@pytest.mark.parametrize("epsilon", [8.0, 1000.0])
def test_a_run_says_which_epsilon_it_keeps_to_and_what_it_spent(epsilon: float) -> None:
    config = load(overrides=PRIVATE | {"privacy.epsilon": epsilon})
    assert beginning(config, False).startswith(f"privacy local: epsilon {epsilon:g} at delta 0.001 in ")
    said = paragraph(config, [{"hospitals": {"a": {"epsilon": epsilon}}}], False)
    assert said.startswith(f"Privacy: epsilon {epsilon:.2f} at delta 0.001 for each group")


def test_clipping_without_noise_is_no_guarantee_and_is_not_called_one() -> None:
    config = load(overrides=PRIVATE | {"privacy.epsilon": 1e9})
    assert beginning(config, True) == "privacy local: none is guaranteed with epsilon 1e+09, gradients are only clipped"
    said = paragraph(config, [{"hospitals": {"a": {"epsilon": 1e9}}}], True)
    assert said == (
        "Privacy: none is guaranteed. Gradients were clipped, but with epsilon 1e+09 the noise is negligible."
    )


def test_a_run_with_drawn_units_says_how_many_and_who_must_not_learn_which() -> None:
    config = load(overrides=PRIVATE | {"privacy.batches": "poisson", "privacy.batch": 32})
    assert beginning(config, False) == (
        "privacy local: epsilon 8 at delta 0.001 in 40 rounds, each step with 32 units of a hospital on average, "
        "drawn independently"
    )
    said = paragraph(config, [{"hospitals": {"a": {"epsilon": 8.0}}}], False)
    assert "It holds as long as nobody learns which units a step had, nor how many" in said


def test_a_run_that_protects_patients_says_so() -> None:
    said = paragraph(
        load(overrides=PRIVATE | {"privacy.unit": "patient"}), [{"hospitals": {"a": {"epsilon": 8}}}], True
    )
    assert "for each patient with images among a hospital's training images. This" in said
    assert "about whether these were among them" in said


def last(refused: str = "", **dice: float) -> dict[str, Any]:
    """The record of a last round with these scores, each with noise of 0.05."""
    hospitals = {name: {"noisy_test_dice": one, "noise_deviation": 0.05} for name, one in dice.items()}
    return {"hospitals": hospitals, "refused": [{"hospital": "c", "reason": refused}] if refused else []}


def test_a_noisy_score_is_shown_with_the_95_percent_interval_of_its_noise_and_clipped_only_there() -> None:
    record = last(a=0.712, b=1.04, c=-0.3)
    assert noisy_scores(record) == {"a": "0.71 ± 0.10", "b": "1.00 ± 0.10", "c": "0.00 ± 0.10"}
    assert record["hospitals"]["b"]["noisy_test_dice"] == 1.04


def test_scores_say_what_they_are_and_who_gave_none_and_why() -> None:
    assert scores({"": last()}, True) == "" == scores({"": last("it reports 3 images")}, True)
    said = scores({"": last(f"{NO_SCORE}it is not connected", a=0.7)}, False)
    assert said == (
        "Mean Dice of the last model on each hospital's own test images, with noise: a 0.70 ± 0.10. ± is the 95 % "
        "interval of the noise alone, not of the choice of images. Each site has divided by the number of test units "
        "that it declares, so a wrong number shifts its score. No score from c (it is not connected)."
    )
    several = scores({"seed 0": last(a=0.7), "seed 1": last(a=0.8)}, True)
    assert "with noise: seed 0: a 0.70 ± 0.10; seed 1: a 0.80 ± 0.10. ±" in several and "declares" not in several


def test_a_run_with_scores_says_so_when_it_begins_and_counts_test_images_among_those_protected() -> None:
    joint = {"privacy.mode": "joint", "privacy.secure_sums": True, "privacy.score_epsilon": 2.0}
    config = load(overrides=PRIVATE | joint)
    assert "; then one noisy test score of each hospital, with epsilon 2 more" in beginning(config, False)
    said = paragraph(config, [{"hospitals": {"a": {"epsilon": 8.57}}}], False)
    assert "for each group of near-duplicates among a hospital's training and test images" in said
    assert "alone it has epsilon 2, and its noise is the hospital's own; hospitals share no part of it." in said
