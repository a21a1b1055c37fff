"""Images from gradients: the code succeeds where it can, and says what follows where it does not."""

import numpy as np
import pytest

from fedpolyp.data.source import open_source
from fedpolyp.privacy.inversion import (
    ENOUGH,
    Image,
    Inversion,
    Inverted,
    Picture,
    _Attacked,
    _control,
    conclusion,
    shapes,
)
from fedpolyp.privacy.inversion import decibels as measured
from fedpolyp.training import shared_trainer
from tests.tiny import tiny_config


def drawn() -> tuple[Image, Image, Picture]:
    """A frame, its mask, and the mean of others."""
    config = tiny_config()
    store = open_source(config.data, config.seed)
    images = np.asarray(store.images[:40])
    return images[0], np.asarray(store.masks[0]), images[10:].mean(axis=0, dtype=np.float32)


def flat(value: int) -> Image:
    return np.full((4, 4, 3), value, np.uint8)


def test_decibels_are_those_of_the_definition() -> None:
    assert measured(flat(0), flat(255)) == 0.0
    assert measured(flat(100), flat(151)) == pytest.approx(20 * np.log10(5))
    assert measured(flat(9), flat(9)) == float("inf")


def inverted(recovered: int, mean: int, control: int) -> Inverted:
    return Inverted("a", flat(10), flat(recovered), flat(mean), flat(control))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            (60, 30, 11),
            "Gradient inversion failed: 14.2 dB, where the mean image has 22.1 dB; coarse shapes ",
        ),
        ((60, 90, 11), "Gradient inversion recovered something: 14.2 dB"),
        ((20, 90, 11), "Gradient inversion succeeded: 28.1 dB"),
    ],
)
def test_what_was_recovered_is_compared_with_the_mean_image(found: tuple[int, int, int], said: str) -> None:
    assert conclusion([inverted(*found)]).startswith(said)


def test_shapes_are_seen_through_noise_that_hides_them_from_decibels() -> None:
    random = np.random.default_rng(0)
    mean = np.full((64, 64, 3), 128, np.uint8)
    original = mean.copy()
    original[16:40, 20:48] = 220
    noisy = np.clip(original + random.normal(0, 90, original.shape), 0, 255).astype(np.uint8)
    noise = np.clip(mean + random.normal(0, 90, original.shape), 0, 255).astype(np.uint8)
    assert measured(noisy, original) < measured(mean, original)
    assert shapes(noisy, original, mean) > 0.9 and shapes(original, original, mean) == pytest.approx(1)
    assert shapes(255 - original, original, mean) == pytest.approx(-1)
    assert abs(shapes(noise, original, mean)) < 0.3
    assert shapes(mean, original, mean) == shapes(original, mean, mean) == 0.0
    assert shapes(noisy, original, noisy) == 0.0  # nothing beyond the guess


def test_coarse_shapes_are_a_finding_where_decibels_are_few() -> None:
    flat_mean = np.full((64, 64, 3), 128, np.uint8)
    original = flat_mean.copy()
    original[16:40, 20:48] = 220
    coarse = np.roll(original, 6, axis=0) // 3
    said = conclusion([Inverted("a", original, coarse, flat_mean, original)])
    assert said.startswith("Gradient inversion recovered coarse shapes: ")


def test_nothing_follows_where_the_control_fails_with_one_image() -> None:
    said = conclusion([inverted(60, 30, 11), inverted(60, 30, 90)])
    assert said.startswith(
        "Gradient inversion says nothing about the run (14.2 dB, where the mean image has 22.1 dB; coarse shapes "
    )
    assert said.endswith("): on the control it failed, with 10.1 dB.")
    assert conclusion([]) == ""


def test_the_control_is_recovered_and_noise_protects_it() -> None:
    image, mask, mean = drawn()
    config = tiny_config()
    control = _control(32, config.seed)
    attacked = _Attacked(control, control.trainable_variables, config, steps=100)
    first = attacked.recover(image, mask, mean)
    assert measured(first, image) >= ENOUGH + 5
    assert measured(attacked.recover(image, mask, mean, noise=3.0), image) < ENOUGH
    # Nothing of one reconstruction is left for the next.
    np.testing.assert_array_equal(attacked.recover(image, mask, mean), first)


def test_a_reconstruction_from_the_unet_begins_with_the_mean_image() -> None:
    image, mask, mean = drawn()
    config = tiny_config(privacy__mode="local", algorithm__name="fedadam", model__normalization="group")
    found = Inversion(config, shared_trainer(config).initial, steps=2).invert("a", image, mask, mean, 0)
    moved = np.abs(found.recovered.astype(int) - found.mean).max()
    assert 0 < moved <= 2 * 255 * 0.02 + 1  # two steps of Adam
    assert found.id == "a" and set(found.decibels) == {"recovered", "mean", "control"}
