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


def _file(name: str) -> Path:
    package, _, inside = name.partition("/")
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / inside


def _cut(file: Path) -> NDArray[Any]:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    assert image is not None
    side = int(min(image.shape[:2]) * _CROP)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    middle = np.ascontiguousarray(image[top : top + side, left : left + side, ::-1])
    return cv2.resize(middle, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    np.savez(sys.argv[1], images=photographs(), names=list(RIGHT), right=json.dumps([list(c) for c in RIGHT.values()]))
