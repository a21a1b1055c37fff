"""Logs a run to MLflow: its settings, and each round's scores."""

import importlib
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedpolyp import files
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.errors import UsageError
from fedpolyp.planning import NO_MLFLOW
from fedpolyp.rounds.observers.observer import Observer, Round

_SCORES = ("dice", "iou", "loss", "val_dice", "seconds", "bytes_up", "bytes_down")
_LONGEST = 500  # characters of a setting's value in MLflow
_RUN_FILE = "mlflow-run"  # in the run's folder: the id of the run in MLflow


@dataclass
class MLflow(Observer):
    """Logs to MLFLOW_TRACKING_URI, or to the folder `mlruns` beside the run's.

    A resumed run continues the same run in MLflow. An error of MLflow is reported, and does not end the run.
    """

    failed: bool = False

    @cached_property
    def client(self) -> Any:
        """MLflow's client.

        Raises:
            UsageError: the package is not installed.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need all of MLflow
        try:
            tracking = importlib.import_module("mlflow.tracking")
        except ImportError:
            raise UsageError(NO_MLFLOW) from None
        folder = self.experiment.run.path.resolve().parent / "mlruns"
        return tracking.MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri())

    def see(self, round: Round) -> None:
        """See `Observer`."""
        self._told(lambda: self._log(round))

    def end(self, last: Checkpoint) -> None:
        """See `Observer`."""
        self._told(lambda: self.client.set_terminated(self._run_id))

    def _log(self, round: Round) -> None:
        plain = round.record.to_plain()
        for name in _SCORES:
            if plain[name] is not None:
                self.client.log_metric(self._run_id, name, float(plain[name]), step=round.number)

    @cached_property
    def _run_id(self) -> str:
        kept = self.experiment.run.path / _RUN_FILE
        if kept.exists():
            return kept.read_text(encoding="ascii").strip()
        found = self.client.get_experiment_by_name("fedpolyp")
        number = self.client.create_experiment("fedpolyp") if found is None else found.experiment_id
        tags = {"mlflow.runName": self.experiment.run.name}
        run_id = str(self.client.create_run(number, tags=tags).info.run_id)
        for section, values in self.experiment.config.model_dump(mode="json").items():
            for name, value in values.items() if isinstance(values, dict) else [("", values)]:
                self.client.log_param(run_id, f"{section}.{name}".rstrip("."), str(value)[:_LONGEST])
        files.write_text(kept, run_id + "\n")
        return run_id

    def _told(self, log: Any) -> None:
        if self.failed:
            return
        try:
            log()
        except UsageError:
            raise
        except Exception as error:
            self.failed = True
            why = " ".join(str(error).split())[:300]
            self.experiment.watcher.note(f"nothing more is sent to MLflow: {type(error).__name__}: {why}")
