"""ONNX, for ONNX Runtime and other programs."""

from pathlib import Path

from fedpolyp.inference.export import onnx_file
from fedpolyp.inference.export.format import Format, Written
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels


class Onnx(Format):
    """model.onnx."""

    needs, extra = onnx_file.NEEDS, onnx_file.EXTRA

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write model.onnx."""
        onnx_file.write(subject, folder / "model.onnx")
        return Written("model.onnx")

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The probabilities from ONNX Runtime."""
        return onnx_file.probabilities(folder / written.file, written, squares)

    def reader(self) -> str:
        """ONNX Runtime."""
        return onnx_file.reader()
