"""MONAI's bundle, as far as possible for a model that is not PyTorch's: metadata, and the network as ONNX."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp import __version__
from fedpolyp.files import to_json, write_text
from fedpolyp.inference.export import onnx_file
from fedpolyp.inference.export.facts import INTENDED, NOT_KNOWN, OUT_OF_SCOPE, TITLE, images_called, licences, scores
from fedpolyp.inference.export.format import INPUT, OUTPUT, Format, Written
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_NOT_USED = "not used"
_MISSING = (
    "It is no complete MONAI bundle: there is no models/model.pt, which MONAI's specification asks for, because the "
    "network is not PyTorch's, and no inference.json. ONNX Runtime runs models/model.onnx."
)


class Monai(Format):
    """configs/metadata.json, models/model.onnx with the channels first, as in MONAI, and docs/README.md."""

    needs, extra = onnx_file.NEEDS, onnx_file.EXTRA

    def write(self, subject: Subject, folder: Path) -> Written:
        """Write the bundle's three folders."""
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir()
        written = Written("models/model.onnx", channels_first=True)
        onnx_file.write(subject, folder / written.file, channels_first=True)
        write_text(folder / "configs" / "metadata.json", to_json(metadata(subject), indent=2) + "\n")
        write_text(folder / "docs" / "README.md", _readme(subject))
        return written

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        """The probabilities from ONNX Runtime."""
        return onnx_file.probabilities(folder / written.file, written, squares)

    def reader(self) -> str:
        """ONNX Runtime."""
        return onnx_file.reader()


def metadata(subject: Subject) -> dict[str, Any]:
    """The content of metadata.json, by MONAI's schema."""
    about, side = subject.about, subject.predictor.image_size
    known = "It does not say where it comes from." if about is None else f"It is {about.sentence()}."
    names = {"hd95": "hd95_of_the_diagonal"}
    found = {f"mean_{names.get(name, name)}": one.value for name, one in scores(subject).items()}
    if not found and about is not None and about.dice is not None:
        found = {"mean_dice": about.dice}
    tensor = {"type": "image", "dtype": "float32", "spatial_shape": [side, side], "is_patch_data": False}
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by fedpolyp {__version__}"},
        "monai_version": _NOT_USED,
        "pytorch_version": _NOT_USED,
        "numpy_version": np.__version__,
        "required_packages_version": {onnx_file.READER: version(onnx_file.READER)},
        "optional_packages_version": {},
        "name": TITLE,
        "task": "Segmentation of polyps in colonoscopy images",
        "description": f"A U-Net that gives each pixel the probability that it is polyp. {known} {_MISSING}",
        "authors": NOT_KNOWN,
        "copyright": NOT_KNOWN,
        "license": NOT_KNOWN,
        "data_source": images_called(subject),
        "data_type": "RGB images",
        "image_classes": "three channels, red, green, blue, from 0 to 255: the network scales them itself",
        "label_classes": "one channel, 1 is polyp, 0 is everything else",
        "pred_classes": f"one channel, the probability of polyp; polyp from {subject.predictor.threshold:g} on",
        **({"eval_metrics": found} if found else {}),
        "intended_use": f"{INTENDED} {OUT_OF_SCOPE.replace('*', '')}",
        "network_data_format": {
            "inputs": {
                INPUT: {
                    **tensor,
                    "format": "magnitude",
                    "modality": "colonoscopy",
                    "num_channels": 3,
                    "value_range": [0, 255],
                    "channel_def": {"0": "red", "1": "green", "2": "blue"},
                }
            },
            "outputs": {
                OUTPUT: {
                    **tensor,
                    "format": "magnitude",
                    "modality": "n/a",
                    "num_channels": 1,
                    "value_range": [0, 1],
                    "channel_def": {"0": "probability of polyp"},
                }
            },
        },
    }


def _readme(subject: Subject) -> str:
    side = subject.predictor.image_size
    said = "\n".join(f"- {line}" for line in licences(subject)) or f"- {NOT_KNOWN}"
    return f"""# {TITLE}

**For research only. Not a medical device.**

{_MISSING}

`models/model.onnx` takes `{INPUT}`, float32 `(N, 3, {side}, {side})`: RGB, rows before columns, values from 0 to 255.
Resize the whole image to {side} x {side} pixels by area, whatever its proportions. It gives `{OUTPUT}`, float32
`(N, 1, {side}, {side})`.

Licences of the images and of the weights that it began with:

{said}

Authors, copyright and the licence of the model itself are {NOT_KNOWN} to fedpolyp: whoever publishes the folder fills
them in, here and in `configs/metadata.json`, and adds a `LICENSE`. `export.json` says how the export was checked.
"""
