"""A run that begins with another model's weights: `--initial-weights RUN` or `FILE.keras`."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.model.weights import noted
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from fedpolyp.training import shared_trainer
from fedpolyp.watcher import Watcher
from tests.same_bits import equal
from tests.tiny import final, tiny_config, tiny_run

SHORT: dict[str, Any] = {"federation__rounds": 1, "training__local_epochs": 1}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Config]:
    """A run of one round, whose last model was saved."""
    config = tiny_config(algorithm__name="pooled", **SHORT)
    run, store = (
        tiny_run(tmp_path_factory.mktemp("earlier") / "run", config),
        open_source(config.data, config.data_seed),
    )
    here.run(config, run, store, run.partition(), Watcher())
    shared_trainer(config).save(final(run, config).models[""], run.model_file("last"))
    return run, config


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "pooled", "local"])
@pytest.mark.parametrize("named", ["run", "file"])
def test_every_algorithm_begins_with_the_saved_models_bits(
    tmp_path: Path, earlier: tuple[RunFolder, Config], algorithm: str, named: str
) -> None:
    run, config = earlier
    place = run.path if named == "run" else run.model_file("last")
    begun = noted(tiny_config(algorithm__name=algorithm, model__initial_weights=str(place), **SHORT))
    assert begun.model.initial_sha256 == hashlib.sha256(run.model_file("last").read_bytes()).hexdigest()
    assert equal(shared_trainer(begun).initial, final(run, config).models[""])
    if named == "file":
        other, store = tiny_run(tmp_path / "run", begun), open_source(begun.data, begun.data_seed)
        here.run(begun, other, store, other.partition(), Watcher())
        # In local training it is the mean of as many equal numbers as there are hospitals.
        assert other.rounds()[0]["dice"] == pytest.approx(run.rounds()[1]["dice"], rel=1e-14)


def test_another_file_at_the_same_place_is_refused(tmp_path: Path, earlier: tuple[RunFolder, Config]) -> None:
    copy = tmp_path / "model.keras"
    copy.write_bytes(earlier[0].model_file("last").read_bytes())
    config = noted(tiny_config(model__initial_weights=str(copy)))
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    with pytest.raises(UsageError, match="the initial weights .*model.keras are not those expected: SHA-256"):
        noted(config)


def test_weights_of_another_model_are_refused_and_what_differs_is_named(earlier: tuple[RunFolder, Config]) -> None:
    file = str(earlier[0].model_file("last"))
    config = noted(tiny_config(model__initial_weights=file, model__base_filters=2))
    with pytest.raises(
        FedpolypError, match=r"model-last.keras does not fit the model of this run: array .*/kernel has shape"
    ):
        _ = shared_trainer(config).initial


def test_what_is_no_model_is_one_sentence(tmp_path: Path, earlier: tuple[RunFolder, Config]) -> None:
    unfinished = tiny_run(tmp_path / "unfinished", tiny_config())
    with pytest.raises(UsageError, match="--initial-weights: .*unfinished has no model-last.keras: it is not finished"):
        noted(tiny_config(model__initial_weights=str(unfinished.path)))
    with pytest.raises(
        UsageError, match="--initial-weights: a model is a run, or a file saved as .keras; got '.*nothing'"
    ):
        noted(tiny_config(model__initial_weights=str(tmp_path / "nothing")))
    with pytest.raises(UsageError, match=r"a model is a run, or a file saved as .keras; got '.*none.keras'"):
        noted(tiny_config(model__initial_weights=str(tmp_path / "none.keras")))
    (tmp_path / "text.keras").write_text("no model")
    config = noted(tiny_config(model__initial_weights=str(tmp_path / "text.keras")))
    with pytest.raises(FedpolypError, match=r"text.keras cannot be read as a Keras model: "):
        _ = shared_trainer(config).initial
    np.savez(tmp_path / "arrays.npz", a=np.zeros(1))
    with pytest.raises(UsageError, match="a model is a run, or a file saved as .keras; got '.*arrays.npz'"):
        noted(tiny_config(model__initial_weights=str(tmp_path / "arrays.npz")))
