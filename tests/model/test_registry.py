"""Every encoder that a config may name is a model, which says what it is before TensorFlow is loaded."""

import subprocess
import sys

from fedpolyp.config import ENCODERS
from fedpolyp.model.registry import MODELS


def test_every_encoder_of_the_config_is_a_model_and_no_other() -> None:
    assert tuple(MODELS) == ENCODERS


def test_models_are_known_without_tensorflow() -> None:
    code = "import sys, fedpolyp.model.weights, fedpolyp.planning; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
