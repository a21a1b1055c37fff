"""calibration.csv of a run, and what a report says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedpolyp.errors import FedpolypError
from fedpolyp.inference.calibration import Reliability, calibrated
from fedpolyp.report.calibration import CalibrationFile, calibration
from fedpolyp.runs import RunFolder

TRUTHS = np.zeros((2, 4, 4), np.uint8)
TRUTHS[0, :2] = 1
IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def _field(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((2, 4, 4), np.float32)


def _error(field: np.ndarray) -> float:
    found = Reliability()
    for one, truth in zip(field, TRUTHS, strict=True):
        found.add(one, truth)
    return found.error


def _run(folder: Path, models: dict[str, tuple[np.ndarray, float | None]]) -> RunFolder:
    folder.mkdir()
    written = CalibrationFile(IMAGES, TRUTHS)
    for mark, (field, temperature) in models.items():
        written.add(mark, field, temperature)
    written.write(RunFolder(folder))
    return RunFolder(folder)


def _analysis(**arms: list[RunFolder]) -> Any:
    made = [SimpleNamespace(label=label, runs=runs, own_models=label == "local") for label, runs in arms.items()]
    return SimpleNamespace(arms=made, partition=SimpleNamespace(hospitals={"=a": None, "b": None}))


def test_the_errors_are_those_of_the_probabilities_averaged_over_models(tmp_path: Path) -> None:
    one, other, third = _field(1), _field(2), _field(3)
    local = _run(tmp_path / "local", {"=a": (one, 2.0), "b": (other, 0.5)})
    fedavg = [_run(tmp_path / "0", {"": (third, None)}), _run(tmp_path / "1", {"": (one, 3.0)})]
    of_local, of_fedavg = calibration(_analysis(local=[local], fedavg=fedavg))
    assert of_local.error == pytest.approx((_error(one) + _error(other)) / 2, abs=1e-5)
    mended = (_error(calibrated(one, 2.0)) + _error(calibrated(other, 0.5))) / 2
    assert of_local.with_temperature == pytest.approx(mended, abs=1e-5)
    assert sum(pixels for _, _, pixels in of_local.curve) == 2 * TRUTHS.size
    assert of_fedavg.error == pytest.approx((_error(third) + _error(one)) / 2, abs=1e-5)
    assert of_fedavg.with_temperature is None  # one of its models has none
    assert "'last:" not in local.calibration_file.read_text()  # no cell begins as a formula does


def test_an_arm_of_which_a_run_has_no_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    whole = _run(tmp_path / "whole", {"": (_field(1), None)})
    found = calibration(_analysis(fedavg=[whole, RunFolder(tmp_path / "none")], pooled=[whole]))
    assert [one.arm for one in found] == ["pooled"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("as given", "as wished", "probabilities"),
        (",1.0,", ",7.0,", "share_polyp"),
        ("as given,9", "as given,10", "bin"),
        ("mean_probability", "mean", "mean"),
    ],
)
def test_a_file_with_what_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    run = _run(tmp_path / "run", {"": (np.where(TRUTHS, 0.95, 0.05).astype(np.float32), None)})
    text = run.calibration_file.read_text()
    assert old in text
    run.calibration_file.write_text(text.replace(old, new))
    with pytest.raises(FedpolypError, match=rf"calibration.csv is damaged.*{said}"):
        calibration(_analysis(fedavg=[run]))


def test_a_model_without_the_probabilities_that_it_gives_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", {"": (_field(1), 2.0)})
    lines = run.calibration_file.read_text().splitlines(keepends=True)
    run.calibration_file.write_text("".join(line for line in lines if "as given" not in line))
    with pytest.raises(FedpolypError, match="damaged: it is not about the models of the run"):
        calibration(_analysis(fedavg=[run]))


def test_a_file_without_one_hospitals_model_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", {"=a": (_field(1), 2.0)})
    with pytest.raises(FedpolypError, match="damaged: it is not about the models of the run"):
        calibration(_analysis(local=[run]))


def test_a_mean_on_the_edge_of_a_bin_stays_in_its_bin(tmp_path: Path) -> None:
    field = np.full((2, 4, 4), 0.09999999, np.float32)
    field[1] = 0.15
    (found,) = calibration(_analysis(fedavg=[_run(tmp_path / "run", {"": (field, None)})]))
    assert [pixels for _, _, pixels in found.curve] == [16, 16]
