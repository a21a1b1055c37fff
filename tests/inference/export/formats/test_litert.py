"""A LiteRT file sees what the model sees, an image at a time."""

import json
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tests.exported import SIDE, close, exported, images, red_model


def test_litert_sees_the_same(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "litert", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["input"]["shape"] == [1, SIDE, SIDE, 3] and told["output"]["shape"] == [1, SIDE, SIDE, 1]
    see = Interpreter(model_path=str(tmp_path / "out" / told["file"])).get_signature_runner()
    found = [see(image=image[None].astype(np.float32))["probability"][0, ..., 0] for image in images(2)]
    close(found, subject.predictor.probabilities(images(2)))
