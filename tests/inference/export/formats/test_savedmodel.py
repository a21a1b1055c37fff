"""A SavedModel sees what the model sees, wherever there is TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.exported import close, exported, images, red_model

ALONE = """
import sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load("out/model")
found = loaded.signatures["serving_default"](image=tf.constant(np.load("images.npy"), tf.float32))["probability"]
np.save("found.npy", found.numpy())
assert not any(name.split(".")[0] in ("fedpolyp", "clients", "server") for name in sys.modules)
"""


def test_tensorflow_sees_the_same_in_one_image_and_in_several(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "savedmodel", tmp_path / "out")
    see = tf.saved_model.load(str(tmp_path / "out" / "model")).signatures["serving_default"]
    for count in (1, 3):
        found = see(image=tf.constant(images(count), tf.float32))["probability"]
        close(found[..., 0], subject.predictor.probabilities(images(count)))


@pytest.mark.slow
def test_a_program_without_fedpolyp_sees_the_same(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "savedmodel", tmp_path / "out")
    np.save(tmp_path / "images.npy", images(2))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-P", "-c", ALONE], cwd=tmp_path, env=environment, check=True)
    close(np.load(tmp_path / "found.npy")[..., 0], subject.predictor.probabilities(images(2)))
