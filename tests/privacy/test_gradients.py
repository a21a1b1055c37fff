"""Gradients unit by unit: no unit adds more than the clip, whatever is in it."""

import math
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st

from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.gradients import UnitGradients, as_units, clipped

SIZE, CLIP = 32, 0.3
NUMBERS = st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=40)


def length(arrays: Arrays) -> float:
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays.values()))


def numbered(arrays: list[np.ndarray]) -> Arrays:
    return {str(number): array for number, array in enumerate(arrays)}


@given(NUMBERS, NUMBERS, st.floats(1e-6, 1e6))
@example([1.0] * 40, [1e3] * 40, 1.0)  # a thousand times as much
@example([math.nan], [1.0], 1.0)
@example([math.inf], [1.0], 1.0)
@example([3e38], [3e38], 1.0)  # whose square is infinite
@example([0.0], [0.0], 1.0)
def test_a_vector_is_never_longer_than_the_clip(one: list[float], other: list[float], clip: float) -> None:
    clip = float(np.float32(clip))
    given = [np.array(one, np.float32), np.array(other, np.float32)]
    cut = [tensor.numpy() for tensor in clipped([tf.constant(array) for array in given], tf.constant(clip))]
    assert all(np.isfinite(array).all() for array in cut)
    assert length(numbered(cut)) <= clip
    with np.errstate(all="ignore"):
        was = length(numbered(given))
    if was < clip * (1 - 1e-4):  # a short one stays as it is
        assert all(np.array_equal(a, b) for a, b in zip(cut, given, strict=True))
    elif clip < was < 1e15:  # a long one keeps its direction, and is as long as it may be
        assert length(numbered(cut)) == pytest.approx(clip, rel=1e-4)


@pytest.fixture(scope="module")
def gradients() -> UnitGradients:
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 64)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(x))
    return UnitGradients(model, model.trainable_variables, "bce+dice")


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = (rng.random((4, SIZE, SIZE)) > 0.6).astype(np.uint8)
    return rng.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8), masks


def sum_of(
    gradients: UnitGradients, pairs: tuple[np.ndarray, np.ndarray], *rows: list[int], clip: float = CLIP
) -> Arrays:
    return gradients.clipped_sum(as_units(*pairs, rows), clip)


def test_without_a_limit_the_sum_is_the_gradient_of_the_summed_loss(
    gradients: UnitGradients, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    from fedpolyp.model.losses import segmentation_loss

    with tf.GradientTape() as tape:
        logits = gradients._logits(pairs[0])[..., 0]
        loss = tf.reduce_sum(segmentation_loss("bce+dice", tf.cast(pairs[1], tf.float32), logits))
    whole = tape.gradient(loss, [variable.value for variable in gradients._variables])
    found = sum_of(gradients, pairs, [0], [1, 2], [3], clip=1e6)
    for one, other in zip(found.values(), whole, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-5)


def test_near_duplicates_count_once_and_a_unit_of_a_thousand_images_no_more_than_one(
    gradients: UnitGradients, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    assert length(sum_of(gradients, pairs, [0], clip=1e6)) > 2 * CLIP  # so that there is something to cut
    for rows in ([0], [0, 1], [0, 0], [2] * 1000):
        assert 0.9 * CLIP < length(sum_of(gradients, pairs, rows)) <= CLIP
    apart = sum_of(gradients, pairs, [0], [0])
    assert length(apart) == pytest.approx(2 * CLIP, rel=1e-3)
    name = next(name for name in apart if name.endswith("kernel"))  # Keras numbers its layers in a process
    np.testing.assert_allclose(sum_of(gradients, pairs, [0, 0])[name], apart[name] / 2, rtol=1e-3)


def test_a_unit_more_changes_the_sum_by_the_clip_at_most(
    gradients: UnitGradients, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    without, with_it = sum_of(gradients, pairs, [0], [1]), sum_of(gradients, pairs, [0], [2, 3], [1])
    assert 0 < length({name: with_it[name] - without[name] for name in without}) <= CLIP * (1 + 1e-5)
    again = sum_of(gradients, pairs, [0], [1])
    assert all(np.array_equal(again[name], without[name]) for name in without)
    assert length(sum_of(gradients, pairs)) == 0  # of no unit at all


def test_nothing_of_a_sum_that_was_interrupted_is_in_the_next(
    gradients: UnitGradients, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    """A site's worker goes on after a request that failed. What is left of one unit would be clipped with another."""

    class Interrupted(list[tuple[np.ndarray, np.ndarray]]):
        def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield self[0]
            raise MemoryError

    before = sum_of(gradients, pairs, [0, 1])
    with pytest.raises(MemoryError):
        gradients.clipped_sum([Interrupted([(pairs[0][2], pairs[1][2])] * 2)], CLIP)
    after = sum_of(gradients, pairs, [0, 1])
    assert all(np.array_equal(before[name], after[name]) for name in before)


class Given(UnitGradients):
    """Its units' gradients are numbers from a table, which the image names."""

    numbers = np.array([0.9999, 1 - 2.0**-10, -(2.0**-15)], np.float32)

    def _gradient(self, image: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(self.numbers, tf.cast(image[0, 0, 0, :1], tf.int32))]


def test_a_unit_more_changes_the_sum_by_the_clip_at_most_whatever_the_others_are() -> None:
    """In float32 the sum with the first unit would be rounded to multiples of 2^-14, and lose each of the last 488."""
    image = keras.Input((1, 1, 3))
    sums = Given(keras.Model(image, image), [keras.Variable(np.zeros(1, np.float32))], "bce+dice")
    others = [1] * 512 + [2] * 488

    def total(*numbers: int) -> float:
        units = ([(np.full((1, 1, 3), number, np.uint8), np.zeros((1, 1), np.uint8))] for number in numbers)
        (found,) = sums.clipped_sum(units, 1.0).values()
        return float(found[0])

    changed = total(0, *others) - total(*others)
    assert 0.9998 < changed <= 1 + 1e-6
    naive = [np.cumsum(Given.numbers[row], dtype=np.float32)[-1] for row in ([0, *others], others)]
    assert naive[0] - naive[1] > 1.01
