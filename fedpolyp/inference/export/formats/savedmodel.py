"""TensorFlow's SavedModel, for TensorFlow Serving and any program with TensorFlow."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from fedpolyp.inference.export.format import Format, Written
from fedpolyp.inference.export.network import converting, network, signature
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels


class SavedModel(Format):
    """model/, a folder with a signature `serving_default`."""

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write model/."""
        with converting(subject, "a SavedModel"):
            wanted = signature(subject.predictor.image_size)
            path = str(folder / "model")
            network(subject).export(path, format="tf_saved_model", verbose=False, input_signature=wanted)
        return Written("model")

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The probabilities from TensorFlow, which has only the folder."""
        import tensorflow as tf

        loaded = tf.saved_model.load(str(folder / written.file))
        see = loaded.signatures["serving_default"]
        return np.asarray(see(**{written.input: tf.constant(squares, tf.float32)})[written.output])[..., 0]

    def reader(self) -> str:
        """TensorFlow."""
        return f"tensorflow {version('tensorflow')}"
