"""The metadata are what MONAI's schema asks for, the network has its channels first, and what is missing is said."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime

from tests.exported import SIDE, close, exported, images, red_model

_TEXT = {"type": "string", "minLength": 1}
_TENSOR = {
    "type": "object",
    "required": [
        *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
        "channel_def",
    ],
    "properties": {
        "type": _TEXT,
        "format": _TEXT,
        "modality": _TEXT,
        "num_channels": {"type": "integer", "minimum": 1},
        "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
        "dtype": _TEXT,
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
# The mandatory keys of MONAI's bundle specification; newer schemas want required_packages_version, older ones optional.
SCHEMA = {
    "type": "object",
    "required": [
        *("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
        *("optional_packages_version", "task", "description", "authors", "copyright", "network_data_format"),
    ],
    "properties": {
        **dict.fromkeys(("version", "monai_version", "pytorch_version", "numpy_version"), _TEXT),
        **dict.fromkeys(("task", "description", "authors", "copyright"), _TEXT),
        "required_packages_version": {"type": "object", "additionalProperties": {"type": "string"}},
        "optional_packages_version": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {key: {"type": "object", "additionalProperties": _TENSOR} for key in ("inputs", "outputs")},
        },
    },
}


def test_the_metadata_fit_the_schema_and_the_network(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "monai", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "configs" / "metadata.json").read_text())
    jsonschema.validate(told, SCHEMA)
    assert "there is no models/model.pt" in told["description"] and "not a medical device" in told["intended_use"]
    assert told["authors"] == told["copyright"] == "not known" and "eval_metrics" not in told

    ((into, image),) = told["network_data_format"]["inputs"].items()
    ((out, probability),) = told["network_data_format"]["outputs"].items()
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / "models" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for value, name, tensor in ((session.get_inputs()[0], into, image), (session.get_outputs()[0], out, probability)):
        assert (value.name, value.shape[1:]) == (name, [tensor["num_channels"], *tensor["spatial_shape"]])
        assert value.type == "tensor(float)" and tensor["dtype"] == "float32"
    assert image["spatial_shape"] == [SIDE, SIDE]
    (found,) = session.run([out], {into: images(2).transpose(0, 3, 1, 2).astype(np.float32)})
    close(found[:, 0], subject.predictor.probabilities(images(2)))
