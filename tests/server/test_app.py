"""What `flwr run` is told becomes an experiment."""

from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.errors import UsageError
from server.app import experiment


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
