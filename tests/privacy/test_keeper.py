"""Noisy sums: the promise as an attacker would test it, and what a repeated order gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import Noise, epsilon_of, epsilon_of_all, sigma_for
from fedpolyp.privacy.keeper import Keeper, order_of
from fedpolyp.privacy.ledger import DrawnBefore, Ledger
from fedpolyp.privacy.noise import simulated_secret

SECRET = b"\x07" * 32
CLIP, DRAWS, DELTA, SEED = 0.5, 1000, 1e-3, 3
WITHOUT: Arrays = {"a/kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "b/bias": np.ones(2, np.float32)}
CANARY: Arrays = {"a/kernel": np.zeros((2, 3), np.float32), "b/bias": np.array([CLIP, 0], np.float32)}
WITH: Arrays = {name: array + CANARY[name] for name, array in WITHOUT.items()}


@dataclass(frozen=True)
class Uncounted(Ledger):
    """A ledger that is not written, for a thousand draws."""

    def spend(self, *of: Any, **more: Any) -> list[Noise]:
        return []


def answers(secret: bytes, total: Arrays, sigma: float) -> list[Arrays]:
    """What a hospital with that secret answers to so many orders."""
    keeper = Keeper(secret, Uncounted(Path()), 8)
    return [keeper.noisy(total, CLIP, Noise(sigma), order_of(f"order {n}", WITHOUT), "run", n) for n in range(DRAWS)]


def proven_epsilon(secret: bytes, sigma: float) -> float:
    """The largest epsilon that one of two attacks proves, at 99 % confidence, who knows all but the canary."""
    without, with_canary = answers(secret, WITHOUT, sigma), answers(secret, WITH, sigma)
    return max(_by_projection(without, with_canary), _by_guessing(without, with_canary, sigma))


def _by_projection(without: list[Arrays], with_canary: list[Arrays]) -> float:
    """Looks along the canary. For normal numbers their means and deviation tell all (Nasr et al., USENIX 2023)."""

    def along(answer: Arrays) -> float:
        return sum(float(np.sum(array * CANARY[name])) for name, array in answer.items()) / CLIP

    one, other = np.array([along(a) for a in without]), np.array([along(a) for a in with_canary])
    deviation = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
    mu = float((other.mean() - one.mean()) / deviation) - 2.33 * np.sqrt(2 / DRAWS)
    return epsilon_of(max(0.0, mu), DELTA)


def _by_guessing(without: list[Arrays], with_canary: list[Arrays], sigma: float) -> float:
    """Draws the noise from the experiment's seed, as the coordinator could, and looks whether the answer has it."""
    guesses = answers(simulated_secret(SEED, "oslo"), WITH, sigma)

    def hits(found: list[Arrays]) -> int:
        return sum(np.array_equal(a["b/bias"], guess["b/bias"]) for a, guess in zip(found, guesses, strict=True))

    right, wrong = hits(with_canary), hits(without)
    least = float(beta.ppf(0.005, right, DRAWS - right + 1)) if right else 0.0
    most = float(beta.ppf(0.995, wrong + 1, DRAWS - wrong))
    return float(np.log(max(least - DELTA, 1e-9) / most))


def test_a_thousand_draws_with_and_without_a_canary_prove_no_more_than_the_promised_epsilon() -> None:
    assert 0.2 < proven_epsilon(SECRET, sigma_for(1.0, DELTA, 1)) <= 1


def test_units_that_were_drawn_together_are_in_one_sum_only(tmp_path: Path) -> None:
    """Two sums of the same units, whose bits differ, would tell more than the ledger's two lines say."""
    keeper, drawn, order = Keeper(SECRET, Ledger(tmp_path / "privacy.jsonl"), 8), Noise(2.0, 0.25), [b"round 1"]
    first = keeper.noisy(WITHOUT, CLIP, drawn, order, "run", 1)
    again = keeper.noisy(WITHOUT, CLIP, drawn, order, "run", 1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    other = WITHOUT | {"b/bias": np.nextafter(WITHOUT["b/bias"], np.float32(2))}
    with pytest.raises(DrawnBefore):
        keeper.noisy(other, CLIP, drawn, order, "run", 1)
    assert keeper.ledger.sums() == [drawn]
    keeper.noisy(other, CLIP, drawn, [b"round 2"], "run", 2)
    for number in (1, 2):  # with all units there is nothing that two sums share
        keeper.noisy(other if number == 1 else WITHOUT, CLIP, Noise(2.0), order, "run", 1)
    assert len(keeper.ledger.sums()) == 4


def proven_of_a_joint_sum(there: int, sharers: int) -> float:
    """The same of sums over hospitals that are there, of which one has the canary, where so many share the noise."""

    def summed(first: Arrays) -> list[Arrays]:
        sigma, sums = sigma_for(1.0, DELTA, 1), list[Arrays]()
        keepers = [Keeper(bytes([number]) * 32, Uncounted(Path()), 8) for number in range(there)]
        for n in range(DRAWS):
            order = [f"order {n}".encode()]
            totals = [first, *[WITHOUT] * (there - 1)]
            pairs = zip(keepers, totals, strict=True)
            own = [keeper.noisy(total, CLIP, Noise(sigma), order, "run", n, sharers) for keeper, total in pairs]
            sums.append({name: np.sum([one[name] for one in own], axis=0) for name in WITHOUT})
        return sums

    return _by_projection(summed(WITHOUT), summed(WITH))


@pytest.mark.parametrize("there", [3, 5])
def test_shares_of_the_fewest_honest_survivors_and_of_more_keep_the_promised_epsilon(there: int) -> None:
    assert 0.2 < proven_of_a_joint_sum(there, 3) <= 1


def test_with_fewer_shares_than_were_reckoned_with_more_is_proven() -> None:
    assert proven_of_a_joint_sum(1, 3) > 1


def test_the_same_draws_prove_more_when_the_noise_is_halved() -> None:
    assert proven_epsilon(SECRET, sigma_for(1.0, DELTA, 1) / 2) > 1


def test_the_same_draws_prove_more_when_the_noise_comes_from_the_experiments_seed() -> None:
    assert proven_epsilon(simulated_secret(SEED, "oslo"), sigma_for(1.0, DELTA, 1)) > 1


def test_noise_has_its_size_on_every_number_of_every_array() -> None:
    found = answers(SECRET, WITHOUT, 2.0)
    for name, array in WITHOUT.items():
        off = np.stack([answer[name] for answer in found]) - array
        assert np.allclose(off.std(axis=0), 2.0 * CLIP, rtol=0.15) and np.allclose(off.mean(axis=0), 0, atol=0.15)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(SECRET, Ledger(tmp_path / "privacy.jsonl"), 8)


def same(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_the_same_order_gives_the_same_bits_and_one_line(keeper: Keeper) -> None:
    one, again = (keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", WITH), "run", 1) for _ in range(2))
    assert same(one, again) and len(keeper.ledger.sums()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        lambda keeper: keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", CANARY), "run", 1),  # other weights
        lambda keeper: keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("another", WITH), "run", 1),
        lambda keeper: keeper.noisy(WITH, CLIP, Noise(2.0), order_of("order", WITH), "run", 1),  # an image more
        lambda keeper: keeper.noisy(WITHOUT, CLIP, Noise(2.5), order_of("order", WITH), "run", 1),
        lambda keeper: keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", WITH), "run", 1, 2),
    ],
)
def test_anything_else_has_other_noise_and_a_line_of_its_own(
    changed: Callable[[Keeper], Arrays], keeper: Keeper
) -> None:
    def first(answer: Arrays, total: Arrays, sigma: float) -> float:
        return float((answer["b/bias"][1] - total["b/bias"][1]) / (sigma * CLIP))

    one = keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", WITH), "run", 1)
    other = changed(keeper)
    sigma = keeper.ledger.sums()
    assert len(sigma) == 2 and abs(first(one, WITHOUT, 2.0) - first(other, WITHOUT, sigma[1].sigma)) > 1e-3


def test_with_a_new_secret_the_same_order_counts_anew(keeper: Keeper) -> None:
    one = keeper.noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", WITH), "run", 1)
    other = Keeper(b"\x08" * 32, keeper.ledger, 8).noisy(WITHOUT, CLIP, Noise(2.0), order_of("order", WITH), "run", 1)
    assert not same(one, other) and len(keeper.ledger.sums()) == 2


def test_epsilon_is_that_of_all_that_has_left(keeper: Keeper) -> None:
    assert keeper.spent(DELTA) == 0.0
    sigma = sigma_for(8.0, DELTA, 2)
    for round in (1, 2):
        keeper.noisy(WITHOUT, CLIP, Noise(sigma), order_of(f"{round}", WITH), f"run {round}", round)
    assert keeper.spent(DELTA) == pytest.approx(8.0)


def test_each_unit_is_drawn_as_often_as_it_should_and_independently_of_the_others(keeper: Keeper) -> None:
    """With this key, whose draws are always the same."""
    drawn = np.zeros((2000, 8), bool)
    for number, row in enumerate(drawn):
        row[keeper.drawn(8, 0.3, order_of(f"order {number}", WITH))] = True
    assert (drawn.mean(axis=0) - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 2000) > (0.3 - drawn.mean(axis=0)).max()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 5 / np.sqrt(2000)
    sizes = drawn.sum(axis=1)  # not a fixed number, but that of independent draws
    assert sizes.var() == pytest.approx(8 * 0.3 * 0.7, rel=0.15) and sizes.min() == 0
    assert keeper.drawn(8, 1.0, order_of("order", WITH)) == list(range(8))


def test_draws_are_the_same_for_the_same_order_and_others_for_any_other(keeper: Keeper) -> None:
    one = keeper.drawn(64, 0.5, order_of("order", WITH))
    assert one == keeper.drawn(64, 0.5, order_of("order", WITH)) == sorted(one)
    seeded = Keeper.simulated(SEED, "oslo", keeper.ledger.path.parent)
    for other in (
        keeper.drawn(64, 0.5, order_of("another", WITH)),
        keeper.drawn(64, 0.5, order_of("order", WITHOUT)),
        keeper.drawn(64, 0.5, [*order_of("order", WITH), b"other images"]),
        Keeper(b"\x08" * 32, keeper.ledger, 8).drawn(64, 0.5, order_of("order", WITH)),
        seeded.drawn(64, 0.5, order_of("order", WITH)),
    ):
        assert 10 < len(set(one) ^ set(other)) < 54


def test_a_drawn_sum_has_noise_and_a_line_of_its_own_even_if_its_number_is_the_same(keeper: Keeper) -> None:
    """As two empty draws have, of other images."""
    sums = [
        keeper.noisy(WITHOUT, CLIP, noise, [*order_of("order", WITH), images], "run", 1)
        for noise in (Noise(2.0), Noise(2.0, 0.5), Noise(2.0, 0.25))
        for images in (b"one", b"two")
    ]
    assert len({float(one["b/bias"][1]) for one in sums}) == 6
    assert keeper.ledger.sums() == [Noise(2.0)] * 2 + [Noise(2.0, 0.5)] * 2 + [Noise(2.0, 0.25)] * 2
    assert keeper.spent(DELTA) == epsilon_of_all(keeper.ledger.sums(), DELTA)
