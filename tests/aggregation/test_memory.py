"""What streams at the server takes no more memory for many hospitals than for few."""

import tracemalloc

import numpy as np
import pytest

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.opaque import MASKED, SUM, Opaque
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Start
from fedpolyp.algorithms.finding import FEDERATED, make
from fedpolyp.config import load
from fedpolyp.privacy.fixed_point import words_of
from fedpolyp.privacy.secure_sum import Opening

COLLECTING = ("median", "trimmed-mean", "krum", "multi-krum")
STREAMING = tuple(name for name in FEDERATED if name not in COLLECTING)
NUMBERS = 20_000  # in each array


def start() -> Start:
    def arrays(*names: str) -> dict[str, np.ndarray]:
        return {name: np.zeros(NUMBERS, np.float32) for name in names}

    return Start(arrays("a/kernel", "a/moving_mean", "b/kernel"), arrays("m/a/kernel", "v/a/kernel"))


def peak(algorithm: Algorithm, hospitals: int) -> int:
    """The most bytes that are held at a time while so many updates are made one by one, combined and forgotten."""
    like, state = algorithm.update(start()), algorithm.begin(start())
    assert {MODEL, OPTIMIZER} <= like.keys()
    tracemalloc.start()
    try:
        aggregate = algorithm.aggregate()
        for number in range(hospitals):
            changes = {
                group: {name: np.full_like(array, number) for name, array in arrays.items()}
                for group, arrays in like.items()
            }
            aggregate.add(Update(f"hospital-{number}", changes, 1.0 + number, 1 + number, 0.5, 3))
            del changes
        algorithm.combine(state, aggregate.result())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def of(name: str, hospitals: int, **settings: object) -> Algorithm:
    names = [f"hospital-{number}" for number in range(hospitals)]
    return make(load(overrides={"algorithm.name": name, **settings}), names)


@pytest.mark.parametrize(
    ("name", "per_step"),
    [(name, per_step) for name in STREAMING for per_step in (False, True) if (name, per_step) != ("fedbn", True)],
)
def test_two_hundred_hospitals_take_the_memory_of_five(name: str, per_step: bool) -> None:
    few, many = (peak(of(name, n, **{"federation.per_step": per_step}), n) for n in (5, 200))
    assert many <= 1.5 * few


def test_masked_updates_of_two_hundred_hospitals_take_the_memory_of_five() -> None:
    like = {MODEL: start().model}

    def held(hospitals: int) -> int:
        words = np.arange(words_of(like), dtype=np.uint64)
        tracemalloc.start()
        try:
            aggregate = Opaque(like)
            for number in range(hospitals):
                changes = {MASKED: {SUM: words + np.uint64(number)}}
                aggregate.add(Update(f"hospital-{number}", changes, 1.0, 1, 0.5, 3))
            for number in range(hospitals):
                aggregate.open(f"hospital-{number}", Opening(bytes(31) + bytes([number])))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert held(200) <= 1.5 * held(5)


@pytest.mark.parametrize("name", COLLECTING)
def test_what_has_to_see_all_updates_holds_them_all(name: str) -> None:
    few, many = (peak(of(name, n), n) for n in (5, 50))
    assert many > 5 * few  # or the measurement measures nothing
