"""`fedpolyp site run`: what it refuses, and what it takes from a model that it scores."""

from pathlib import Path

import pytest

from fedpolyp import runs
from fedpolyp.cli.options import Given
from fedpolyp.cli.site.run import _to_evaluate
from fedpolyp.config import load, to_toml
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError
from fedpolyp.inference import about
from tests.cli.site.called import fedpolyp
from tests.tiny import tiny_config


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tiny_config(model__encoder="efficientnet-lite0", data__image_size=64)
    told = about.About(kind="last", round=1, rounds=1, image_size=64, config=to_toml(config))
    monkeypatch.setattr(about, "read_about", lambda path: told)
    (tmp_path / "m.keras").touch()
    return tmp_path / "m.keras"


def test_the_model_gives_its_own_settings_and_nothing_is_trained(model: Path) -> None:
    config = _to_evaluate(Given(None, None, {"federation.round_timeout": 99.0}), model).config()
    assert (config.federation.rounds, config.federation.round_timeout) == (0, 99.0)
    assert (config.data.image_size, config.model.base_filters) == (64, 4)
    assert config.model.encoder == "efficientnet-lite0" and config.model.encoder_weights == "random"
    assert config.model.initial_weights == str(model)


@pytest.mark.parametrize("name", ["federation.rounds", "model.base_filters", "training.optimizer", "algorithm.name"])
def test_a_setting_that_would_train_or_make_another_model_is_refused(model: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"so {name} cannot be given"):
        _to_evaluate(Given(None, None, {name: 1}), model)
    with pytest.raises(UsageError, match="--config and --preset cannot be given"):
        _to_evaluate(Given(None, "paper", {}), model)


def test_what_is_no_model_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="a model is a run, or a file saved as .keras"):
        _to_evaluate(Given(None, None, {}), tmp_path / "none.keras")
    (tmp_path / "m.keras").touch()
    monkeypatch.setattr(about, "read_about", lambda path: None)
    with pytest.raises(UsageError, match="does not say what it is made of"):
        _to_evaluate(Given(None, None, {}), tmp_path / "m.keras")


def test_a_simulated_run_is_not_gone_on_with_at_sites(deploy: Path, tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", load(), Partition((), {"hospital-1": HospitalImages(("a",), (), ())}))
    with pytest.raises(UsageError, match="was not run at sites; resume it with fedpolyp simulate --resume"):
        fedpolyp("run", "--folder", str(deploy / "coordinator"), "--resume", str(run.path))
