"""What MLflow hears of a run; its store is a folder."""

import sys
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from tests.tiny import Notes, tiny_config, tiny_run


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def carried(folder: Path, **options: Any) -> tuple[RunFolder, Notes]:
    config = tiny_config(federation__rounds=2, training__local_epochs=1, runtime__track="mlflow", **options)
    run, notes = tiny_run(folder, config), Notes()
    here.run(config, run, open_source(config.data, config.data_seed), run.partition(), notes)
    return run, notes


def test_settings_and_each_rounds_scores_arrive_in_the_folder_beside_the_run(tmp_path: Path) -> None:
    run, notes = carried(tmp_path / "run")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("fedpolyp")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == "run"
    assert logged.info.status == "FINISHED"
    assert logged.data.params["algorithm.name"] == "fedavg"
    assert logged.data.params["training.learning_rate"] == "0.005"
    dices = client.get_metric_history(logged.info.run_id, "dice")
    assert [(one.step, one.value) for one in dices] == [(r["round"], r["dice"]) for r in run.rounds()]
    assert notes.notes == []


def test_a_tracker_that_fails_is_told_once_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlruns").write_text("a file in the way")
    run, notes = carried(tmp_path / "run")
    assert len(run.rounds()) == 3
    assert len([note for note in notes.notes if note.startswith("nothing more is sent to MLflow: ")]) == 1


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(UsageError, match=r"--track mlflow needs the package mlflow-skinny: pip install"):
        carried(tmp_path / "run")
