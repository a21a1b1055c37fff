"""The scores of a run's last models on held-out images made worse: robustness.csv, and its part of a report."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedpolyp.cells import csv_text, guarded, read_rows
from fedpolyp.data.store import Store
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.findings import Analysis
from fedpolyp.files import write_text
from fedpolyp.inference.corruption import KINDS, SEVERITIES
from fedpolyp.inference.evaluation import robustness as measured
from fedpolyp.inference.predictor import Predictor
from fedpolyp.report.calibration import last_models
from fedpolyp.runs import RunFolder, model_name


class _Score(BaseModel):
    """A row of robustness.csv."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str  # see `model_name`
    kind: str = Field(pattern=f"^({'|'.join(KINDS)})$")
    severity: int = Field(ge=SEVERITIES[0], le=SEVERITIES[-1])
    dice: float = Field(ge=0, le=1)  # the mean over the images with a polyp


@dataclass(frozen=True)
class Robustness:
    """The robustness of one arm, after the last round."""

    arm: str
    dice: Mapping[str, Sequence[float]]  # by kind, for each severity; the mean over the arm's models


def measure(run: RunFolder, store: Store) -> None:
    """Write robustness.csv: each last model, as it was saved, on the held-out images made worse in every way.

    Raises:
        UsageError: the run has no held-out image with a polyp.
        FedpolypError: a model or an image is missing.
    """
    images, truths = run.partition().heldout_of(store)
    if not truths.any():
        raise UsageError(f"{run.path} has no held-out image with a polyp, so there is no Dice to lose")
    rows = []
    for mark in _marks(run):
        predictor = Predictor.load(run.model_file("last", mark))
        for kind, means in measured(predictor, images, truths, predictor.threshold).items():
            name = guarded(model_name("last", mark))
            rows += [(name, kind, severity, round(dice, 6)) for severity, dice in zip(SEVERITIES, means, strict=True)]
    write_text(run.robustness_file, csv_text(tuple(_Score.model_fields), rows))


def robustness(analysis: Analysis) -> tuple[Robustness, ...]:
    """The content of the runs' files, by arm; arms with a run without a file are left out.

    Raises:
        FedpolypError: a file is damaged.
    """
    found = []
    for arm in analysis.arms:
        files = [read_rows(run.robustness_file, _Score) for run in arm.runs]
        if all(files):
            models = last_models(analysis, arm)
            means = np.mean(
                [_models_mean(run, rows, models) for run, rows in zip(arm.runs, files, strict=True)], axis=0
            )
            found.append(Robustness(arm.label, dict(zip(KINDS, means.tolist(), strict=True))))
    return tuple(found)


def _models_mean(run: RunFolder, rows: Sequence[_Score], models: set[str]) -> list[list[float]]:
    """The scores of one run, by kind and severity; the mean over its models."""
    score = {(row.model, row.kind, row.severity): row.dice for row in rows}
    if score.keys() != set(itertools.product(models, KINDS, SEVERITIES)) or len(score) != len(rows):
        raise FedpolypError(f"{run.robustness_file} is damaged: it must hold every model, kind and severity once")
    return [
        [float(np.mean([score[model, kind, at] for model in sorted(models)])) for at in SEVERITIES] for kind in KINDS
    ]


def _marks(run: RunFolder) -> list[str]:
    """The marks of the run's last models: '' for all hospitals, or each hospital with its own."""
    if run.model_file("last").exists():
        return [""]
    own = [name for name in sorted(run.partition().hospitals) if run.model_file("last", name).exists()]
    if not own:
        raise FedpolypError(f"{run.path} has no saved model, so none can be shown images made worse")
    return own
