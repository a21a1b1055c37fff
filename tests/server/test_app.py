"""What `flwr run` is told becomes an experiment."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import server.app
from fedpolyp.config import load, to_toml
from fedpolyp.errors import UsageError
from fedpolyp.rounds.experiment import Experiment
from server.app import experiment
from tests.tiny import tiny_config


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("[training]\nbatch_size = 4\nloss = 'bce'\n")
    told = {"config": str(tmp_path / "experiment.toml"), "overrides": "training.batch_size=5 federation.rounds=3"}
    expected = {"training.batch_size": 5, "training.loss": "bce", "federation.rounds": 3}
    assert experiment(told) == load(overrides=expected)
    assert experiment({"config": "", "overrides": ""}) == load()


@pytest.mark.parametrize("algorithm", ["pooled", "local"])
def test_an_algorithm_without_a_federation_is_refused_and_not_trained_as_one(algorithm: str) -> None:
    with pytest.raises(UsageError, match=f"Flower runs only federations; '{algorithm}' is for 'fedpolyp simulate'"):
        experiment({"overrides": f"algorithm.name={algorithm}"})


def test_no_other_process_can_resume_a_run_that_flwr_run_carries_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def run_on(carried: Experiment, grid: Any) -> None:
        held.append(carried.run.at_work)

    monkeypatch.setattr(server.app, "run_on", run_on)
    (tmp_path / "experiment.toml").write_text(to_toml(tiny_config()))
    told = {"config": str(tmp_path / "experiment.toml"), "out": str(tmp_path / "run")}
    main: Any = server.app.main  # Flower's types hide its parameters
    main(None, SimpleNamespace(run_config=told))
    assert held == [True]
