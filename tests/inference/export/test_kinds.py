"""Every kind of model of the project is exported to every format that converts it, and sees the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.inference.export.export import export
from fedpolyp.inference.export.finding import make
from fedpolyp.inference.export.formats import FORMATS
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Predictor
from fedpolyp.model import registry
from fedpolyp.report.finish import finish
from tests.bfloat16 import computes_in_bfloat16
from tests.tiny import carry_here, tiny_config, tiny_run

CONVERTED = tuple(name for name in FORMATS if name != "huggingface")  # which has the file itself
RANDOM = {"model__encoder_weights": "random"}
KINDS: dict[str, dict[str, Any]] = {
    "batch": {"model__normalization": "batch"},
    "group": {"model__normalization": "group", "model__dropout": (0.1, 0.3)},
    "none": {"model__normalization": "none"},
    "frozen": {"model__encoder": "efficientnet-lite0", "model__frozen_statistics": True} | RANDOM,
    "frozen-group": {
        "model__encoder": "efficientnet-lite0",
        "model__frozen_statistics": True,
        "model__normalization": "group",
    }
    | RANDOM,
    **{
        encoder: {"model__encoder": encoder} | RANDOM
        for encoder in ("mobilenet-v2", "efficientnet-v2-b0", "resnet50-v2")
    },
}
# MONAI's network is ONNX's with its channels first: one of each normalization and encoder shows that.
TRIED = [
    (kind, to) for kind in KINDS for to in CONVERTED if to != "monai" or kind in ("batch", "group", "none", "frozen")
]


def lively(config: Config) -> Subject:
    """A model whose statistics and shifts are not those of a new one, which would hide that they are mistaken."""
    rng = np.random.default_rng(0)
    # As `Trainer.save` builds it, whatever the run's precision.
    plain = config.model_copy(update={"training": config.training.model_copy(update={"precision": "float32"})})
    model = registry.build(plain)
    for variable in model.weights:
        kind = variable.path.rpartition("/")[2]
        if kind in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif kind in ("moving_mean", "beta", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return Subject(Predictor(model, None, Path(__file__)), "last")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "to"), TRIED)
def test_each_kind_of_model_sees_the_same_in_each_format(kind: str, to: str, tmp_path: Path) -> None:
    subject = lively(tiny_config(training__precision="mixed_bfloat16", **KINDS[kind]))
    check = export(subject, to, make(to), tmp_path / "out")
    assert check.difference < 1e-4 and check.telling


@pytest.mark.slow
@computes_in_bfloat16
def test_a_model_trained_in_bfloat16_is_exported_in_float32_and_names_no_path(tmp_path: Path) -> None:
    config = tiny_config(training__precision="mixed_bfloat16", federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    finish(run, open_source(config.data, config.seed))
    subject = Subject.load(run.path)
    heldout = len(run.partition().heldout)
    for to in FORMATS:
        check = export(subject, to, make(to), tmp_path / to)
        assert check.of.startswith(f"{heldout} held-out images of its run, ") and check.difference < 1e-4
        for path in (tmp_path / to).rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for place in (tmp_path, Path.home(), Path.cwd(), Path(np.__file__).parents[1]):
                assert str(place).encode() not in content, path
