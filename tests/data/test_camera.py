"""A camera's bits depend on the camera, the image and its id; a neutral one changes nothing."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.data.camera import Camera, draw_cameras

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
FLAT = np.full((1, 32, 32, 3), 120, np.uint8)
IDS = [f"image{i}" for i in range(6)]
ALL = draw_cameras(4, 1.0, np.random.default_rng(1))


def test_a_neutral_camera_changes_nothing_and_neither_do_those_of_no_strength() -> None:
    for camera in (Camera(), *draw_cameras(3, 0.0, np.random.default_rng(0))):
        assert (camera.take(IMAGES, IDS) == IMAGES).all()
        assert str(camera) == ""


@pytest.mark.parametrize("camera", ALL)
def test_an_image_has_the_same_bits_whatever_stands_beside_it(camera: Camera) -> None:
    whole = camera.take(IMAGES, IDS)
    for row in (5, 0, 3):
        assert (camera.take(IMAGES[row : row + 1], IDS[row : row + 1])[0] == whole[row]).all()
    assert (camera.take(IMAGES[::-1], IDS[::-1]) == whole[::-1]).all()
    assert whole.dtype == np.uint8 and whole.shape == IMAGES.shape and (whole != IMAGES).any()


def test_each_property_does_what_it_is_called() -> None:
    def of(**properties: Any) -> NDArray[np.int_]:
        return Camera(**properties).take(FLAT, ["a"])[0].astype(int)

    red, green, blue = of(balance=(1.5, 1.0, 0.5))[0, 0]
    assert (red, green, blue) == (180, 120, 60)
    assert of(gamma=2.0).max() < 60 < 120 < of(gamma=0.5).min()
    shaded = of(vignette=0.5)
    assert shaded[16, 16].min() >= 119 and shaded[0, 0].max() < 66
    assert 0.08 * 255 < of(noise=0.1).std() < 0.12 * 255
    edge = np.zeros((1, 32, 32, 3), np.uint8)
    edge[:, :, 16:] = 255
    soft = Camera(blur=0.05).take(edge, ["a"])[0]
    assert 60 < soft[16, 15, 0] < 128 < soft[16, 16, 0] < 200
    assert np.abs(Camera(quality=5).take(IMAGES, IDS).astype(int) - IMAGES).mean() > 10


def test_noise_differs_between_images_and_cameras() -> None:
    one, other = Camera(noise=0.1, seed=1), Camera(noise=0.1, seed=2)
    a, b = one.take(np.repeat(FLAT, 2, axis=0), ["a", "b"])
    assert (a != b).any() and (other.take(FLAT, ["a"])[0] != a).any()


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_cameras_are_drawn_apart_whatever_the_seed(count: int) -> None:
    for seed in range(5):
        cameras = draw_cameras(count, 0.5, np.random.default_rng(seed))
        assert len(set(cameras)) == count
        if count > 1:
            assert np.ptp([camera.gamma for camera in cameras]) > 0.3
