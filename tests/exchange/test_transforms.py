"""What an update passes through before it leaves a hospital: nothing, or a simulated lie."""

import numpy as np
import pytest

from fedpolyp.algorithms.base import MODEL, OPTIMIZER
from fedpolyp.config import load
from fedpolyp.exchange.transforms import Changes, chain, inverts_masks

CHANGES: Changes = {
    MODEL: {
        "a/kernel": np.full((2, 3), 0.5, np.float32),
        "a/moving_mean": np.ones(3, np.float32),
    },
    OPTIMIZER: {"iterations": np.array(4)},
}


def sent(how: str, hospital: str = "hospital-1", round: int = 1) -> Changes:
    config = load(overrides={"federation.liars": "hospital-1", "federation.lie": how})
    changes = CHANGES
    for transform in chain(config, hospital):
        changes = transform(changes, round)
    return changes


def test_an_honest_hospitals_update_leaves_as_it_is() -> None:
    assert sent("sign-flip", "hospital-2") is CHANGES
    assert chain(load(), "hospital-1") == []


@pytest.mark.parametrize(("how", "factor"), [("sign-flip", -1.0), ("scale", 10.0)])
def test_a_liar_turns_or_enlarges_the_trainable_part_alone(how: str, factor: float) -> None:
    lie = sent(how)
    np.testing.assert_array_equal(lie[MODEL]["a/kernel"], factor * CHANGES[MODEL]["a/kernel"])
    assert lie[MODEL]["a/kernel"].dtype == np.float32
    np.testing.assert_array_equal(lie[MODEL]["a/moving_mean"], CHANGES[MODEL]["a/moving_mean"])
    assert lie[OPTIMIZER] is CHANGES[OPTIMIZER]


def test_noise_is_of_the_updates_size_and_drawn_from_seed_round_and_hospital() -> None:
    one, again, later = sent("noise"), sent("noise"), sent("noise", round=2)
    np.testing.assert_array_equal(one[MODEL]["a/kernel"], again[MODEL]["a/kernel"])
    assert (one[MODEL]["a/kernel"] != later[MODEL]["a/kernel"]).all()
    assert 0.05 < np.abs(one[MODEL]["a/kernel"]).mean() < 2


def test_flipped_labels_are_a_lie_about_masks_not_about_the_update() -> None:
    config = load(overrides={"federation.liars": "hospital-1", "federation.lie": "label-flip"})
    assert chain(config, "hospital-1") == []
    assert inverts_masks(config, "hospital-1")
    assert not inverts_masks(config, "hospital-2")
    alone = load(
        overrides={"federation.liars": "hospital-1", "federation.lie": "label-flip", "algorithm.name": "local"}
    )
    assert not inverts_masks(alone, "hospital-1")
