import numpy as np
import pytest

from fedpolyp.data import phantom
from fedpolyp.inference.corruption import KINDS, SEVERITIES, corrupted


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return phantom.draw(3, 64, 3, 0)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_makes_images_worse_and_the_same_every_time(kind: str, images: np.ndarray) -> None:
    before = images.copy()
    worse = [corrupted(images, kind, severity) for severity in SEVERITIES]
    off = [float(np.abs(one.astype(float) - images).mean()) for one in worse]
    assert 0 < off[0] < off[1] < off[2]
    assert (corrupted(images, kind, 2) == worse[1]).all() and (images == before).all()
    assert corrupted(images[1:2], kind, 1)[0].shape == (64, 64, 3) and worse[0].dtype == np.uint8
