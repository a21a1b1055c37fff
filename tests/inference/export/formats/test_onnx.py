"""An ONNX file sees what the model sees, by names and shapes that export.json tells."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from tests.exported import SIDE, close, exported, images, red_model


def test_onnx_runtime_sees_the_same_in_one_image_and_in_several(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "onnx", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    session = onnxruntime.InferenceSession(tmp_path / "out" / told["file"], providers=["CPUExecutionProvider"])
    ((into,), (out,)) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.type, into.shape) == ("image", "tensor(float)", ["batch", SIDE, SIDE, 3])
    assert (out.name, out.type, out.shape) == ("probability", "tensor(float)", ["batch", SIDE, SIDE, 1])
    assert told["input"]["shape"] == [None, SIDE, SIDE, 3] and told["input"]["name"] == "image"
    for count in (1, 3):
        (found,) = session.run(["probability"], {"image": images(count).astype(np.float32)})
        close(found[..., 0], subject.predictor.probabilities(images(count)))
