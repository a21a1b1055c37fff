"""The calibration of a run's last models on the held-out images: calibration.csv, and its part of a report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedpolyp.cells import csv_text, guarded, read_rows
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.findings import Analysis, Arm
from fedpolyp.files import write_text
from fedpolyp.inference.calibration import BINS, Reliability, calibrated
from fedpolyp.runs import RunFolder, model_name

_GIVEN, _DIVIDED = "as given", "with temperature"


class _Bin(BaseModel):
    """A row of calibration.csv: the pixels of one bin of probabilities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str  # see `model_name`
    probabilities: Literal["as given", "with temperature"]  # see `fedpolyp.inference.calibration`
    bin: int = Field(ge=0, lt=BINS)
    mean_probability: float = Field(ge=0, le=1)
    share_polyp: float = Field(ge=0, le=1)
    pixels: int = Field(gt=0)


@dataclass(frozen=True)
class Calibration:
    """The calibration of one arm, after the last round."""

    arm: str
    error: float  # expected calibration error, the mean over the arm's models
    with_temperature: float | None  # the same, each with its own temperature; None if some have none
    curve: Sequence[tuple[float, float, int]]  # see `Reliability.curve`; all models together


class CalibrationFile:
    """calibration.csv of a run while it is collected."""

    def __init__(self, images: NDArray[np.uint8], truths: NDArray[np.uint8]) -> None:
        """`images` (N, S, S, 3) and `truths` (N, S, S) are the held-out ones."""
        self.images, self.truths = images, truths
        self._rows: list[tuple[str, str, int, float, float, int]] = []

    def add(self, mark: str, probabilities: NDArray[np.float32], temperature: float | None) -> None:
        """Add the last model of `mark`, '' for all hospitals': its `probabilities` (N, S, S) of polyp."""
        kinds = {_GIVEN: probabilities}
        if temperature is not None:
            kinds[_DIVIDED] = calibrated(probabilities, temperature)
        name = guarded(model_name("last", mark))
        for kind, field in kinds.items():
            found = Reliability()
            found.add(field, self.truths)
            bins = zip(np.flatnonzero(found.pixels).tolist(), found.curve(), strict=True)
            self._rows += [(name, kind, at, round(p, 6), round(share, 6), count) for at, (p, share, count) in bins]

    def write(self, run: RunFolder) -> None:
        """Write the file."""
        write_text(run.calibration_file, csv_text(tuple(_Bin.model_fields), self._rows))


def calibration(analysis: Analysis) -> tuple[Calibration, ...]:
    """The content of the runs' files, by arm; arms with a run without a file are left out.

    Raises:
        FedpolypError: a file is damaged.
    """
    found = []
    for arm in analysis.arms:
        files = [read_rows(run.calibration_file, _Bin) for run in arm.runs]
        if not all(files):
            continue
        models = last_models(analysis, arm)
        for run, rows in zip(arm.runs, files, strict=True):
            if {row.model for row in rows if row.probabilities == _GIVEN} != models:
                raise FedpolypError(f"{run.calibration_file} is damaged: it is not about the models of the run")
        by_model = [[row for row in rows if row.model == model] for rows in files for model in sorted(models)]
        given, divided = (
            [_reliability(row for row in rows if row.probabilities == kind) for rows in by_model]
            for kind in (_GIVEN, _DIVIDED)
        )
        mended = _mean_error(divided) if all(one.pixels.any() for one in divided) else None
        together = _reliability(row for rows in files for row in rows if row.probabilities == _GIVEN)
        found.append(Calibration(arm.label, _mean_error(given), mended, together.curve()))
    return tuple(found)


def last_models(analysis: Analysis, arm: Arm) -> set[str]:
    """The names in CSV files of a run's models after the last round: one, or one of each hospital."""
    marks = analysis.partition.hospitals if arm.own_models else [""]
    return {guarded(model_name("last", mark)) for mark in marks}


def _mean_error(models: Sequence[Reliability]) -> float:
    return float(np.mean([one.error for one in models]))


def _reliability(rows: Iterable[_Bin]) -> Reliability:
    found = Reliability()
    for row in rows:
        found.put(row.bin, row.mean_probability, row.share_polyp, row.pixels)
    return found
