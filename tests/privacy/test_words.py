"""What a run says of its privacy."""

import pytest

from fedpolyp.config import load
from fedpolyp.privacy.words import beginning, paragraph

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
        "privacy local: epsilon 8 at delta 0.001 in 40 rounds, each step with 32 units of a hospital in the mean, "
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
