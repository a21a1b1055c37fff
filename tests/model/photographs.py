"""Photographs that scikit-learn and scikit-image ship, cut as ImageNet's are, with the classes that fit them.

`python -m tests.model.photographs FILE.npz` writes them for `scripts/encoder/torch_reference.py`.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE, _CROP = 224, 0.875
_MORE = [f"skimage/data/{name}" for name in ("astronaut.png", "brick.png", "camera.png", "grass.png", "gravel.png")]
_CROPS = 4  # of each
# The classes of ImageNet-1k, by number, of which each shows one.
RIGHT: dict[str, tuple[int, ...]] = {
    "sklearn/datasets/images/china.jpg": (442, 663, 698, 832),  # bell cote, monastery, palace, stupa
    "sklearn/datasets/images/flower.jpg": (985,),  # daisy: the nearest there is to a dahlia
    "skimage/data/chelsea.png": (281, 282, 285),  # tabby, tiger cat, Egyptian cat
    "skimage/data/coffee.png": (967,),  # espresso
    "skimage/data/rocket.jpg": (657, 744, 812),  # missile, projectile, space shuttle
    "skimage/data/motorcycle_left.png": (665, 670),  # moped, motor scooter
}


def photographs() -> NDArray[Any]:
    """The photographs (N, 224, 224, 3) uint8, RGB: the middle seven eighths of the shorter side."""
    return np.stack([_cut(_file(name)) for name in RIGHT])


def crops() -> NDArray[Any]:
    """Random parts of the photographs, as the network was trained on: (N, 224, 224, 3) uint8, RGB."""
    rng, cut = np.random.default_rng(0), []
    for name in [*RIGHT, *_MORE] * _CROPS:
        image = _read(_file(name))
        height, width = image.shape[:2]
        area, ratio = rng.uniform(0.15, 1) * height * width, np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
        wide, high = min(width, int(np.sqrt(area * ratio))), min(height, int(np.sqrt(area / ratio)))
        top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
        part = np.ascontiguousarray(image[top : top + high, left : left + wide])
        part = cv2.resize(part, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)
        cut.append(part[:, ::-1] if rng.random() < 0.5 else part)
    return np.stack(cut)


def _file(name: str) -> Path:
    package, _, inside = name.partition("/")
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / inside


def _read(file: Path) -> NDArray[Any]:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


def _cut(file: Path) -> NDArray[Any]:
    image = _read(file)
    side = int(min(image.shape[:2]) * _CROP)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    middle = np.ascontiguousarray(image[top : top + side, left : left + side])
    return cv2.resize(middle, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    right = json.dumps([list(classes) for classes in RIGHT.values()])
    np.savez(sys.argv[1], images=photographs(), names=list(RIGHT), right=right, crops=crops())
