"""LiteRT (which was TensorFlow Lite), for phones and small devices."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from fedpolyp.inference.export.format import Format, Written
from fedpolyp.inference.export.network import converting, network, signature
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels

_PACKAGE = "ai-edge-litert"


class LiteRT(Format):
    """model.tflite, one image at a time: most devices' accelerators need a fixed shape."""

    needs, extra = {_PACKAGE: "ai_edge_litert"}, "export-litert"

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write model.tflite."""
        with converting(subject, "LiteRT"):
            wanted = signature(subject.predictor.image_size, batch=1)
            path = str(folder / "model.tflite")
            network(subject).export(path, format="litert", verbose=False, input_signature=wanted)
        return Written("model.tflite", batch=1)

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The probabilities from LiteRT's interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        see = Interpreter(model_path=str(folder / written.file)).get_signature_runner()
        found = [see(**{written.input: square[None].astype(np.float32)})[written.output] for square in squares]
        return np.concatenate(found)[..., 0]

    def reader(self) -> str:
        """LiteRT."""
        return f"{_PACKAGE} {version(_PACKAGE)}"
