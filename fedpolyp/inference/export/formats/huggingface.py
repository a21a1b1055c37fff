"""A folder for Hugging Face's hub: the model as it is, its description, and a model card."""

import shutil
from importlib.metadata import version
from pathlib import Path

from fedpolyp.files import to_json, write_text
from fedpolyp.inference.export.card import card
from fedpolyp.inference.export.format import Format, Written, described
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels, Predictor


class HuggingFace(Format):
    """model.keras, config.json and README.md. Nothing is uploaded."""

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write the three files."""
        shutil.copyfile(subject.predictor.path, folder / "model.keras")
        write_text(folder / "README.md", card(subject))
        written, predictor = Written("model.keras"), subject.predictor
        config = {
            "library_name": "keras",
            "model_type": "u-net",
            "task": "image-segmentation",
            "image_size": predictor.image_size,
            "num_channels": 3,
            "num_labels": 1,
            "id2label": {"0": "polyp"},
            **described(written, predictor),
            "fedpolyp": subject.settings or None,
        }
        write_text(folder / "config.json", to_json(config, indent=1) + "\n")
        return written

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The copy's probabilities."""
        return Predictor.load(folder / written.file).probabilities(squares)

    def reader(self) -> str:
        """Keras."""
        return f"keras {version('keras')}"
