"""An ONNX file sees what the model sees, by names and shapes that export.json tells."""

import json
from pathlib import Path

import keras
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


def test_what_a_normalization_subtracts_is_in_the_file(tmp_path: Path) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    scaled = keras.layers.Normalization(mean=[100.0, 120, 140], variance=[900.0, 400, 2500])(image)
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid")
    keras.Model(image, layer(scaled)).save(tmp_path / "scaled.keras")
    subject = exported(tmp_path / "scaled.keras", "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image"]
    (found,) = session.run(None, {"image": images(2).astype(np.float32)})
    close(found[..., 0], subject.predictor.probabilities(images(2)))
