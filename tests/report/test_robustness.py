"""robustness.csv of a run, and what a report says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.inference import predictor
from fedpolyp.inference.corruption import KINDS, corrupted
from fedpolyp.report.robustness import measure, robustness
from fedpolyp.runs import RunFolder

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
TRUTHS = (IMAGES[..., 0] > 127).astype(np.uint8)


class _Bright:
    """A model that takes for polyp what is red enough."""

    threshold = 0.5

    def __init__(self, least: int) -> None:
        self.least = least

    def probabilities(self, squares: np.ndarray) -> np.ndarray:
        return (squares[..., 0] > self.least).astype(np.float32)


class _Run(RunFolder):
    def partition(self) -> Any:
        return SimpleNamespace(hospitals={"a": None, "b": None}, heldout_of=lambda store: (IMAGES, store))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    made = _Run(tmp_path)
    models = {made.model_file("last", "a"): _Bright(127), made.model_file("last", "b"): _Bright(255)}
    for file in models:
        file.touch()
    monkeypatch.setattr(predictor.Predictor, "load", lambda place: models[place])
    return made


def _analysis(**arms: list[RunFolder]) -> Any:
    made = [SimpleNamespace(label=label, runs=runs, own_models=label == "local") for label, runs in arms.items()]
    return SimpleNamespace(arms=made, partition=SimpleNamespace(hospitals={"a": None, "b": None}))


def _dice(kind: str, severity: int) -> float:
    worse = corrupted(IMAGES, kind, severity)[..., 0] > 127
    both = (worse & (TRUTHS == 1)).sum(axis=(1, 2))
    return float((2 * both / (worse.sum(axis=(1, 2)) + TRUTHS.sum(axis=(1, 2)))).mean())


def test_each_model_sees_each_kind_at_each_severity_and_the_arm_is_their_mean(run: RunFolder) -> None:
    measure(run, TRUTHS)  # type: ignore[arg-type]  # the store of this run is its masks
    (found,) = robustness(_analysis(local=[run]))
    assert found.arm == "local" and list(found.dice) == list(KINDS)
    for kind in KINDS:  # hospital b sees nothing anywhere: its Dice is 0
        assert found.dice[kind] == pytest.approx([_dice(kind, severity) / 2 for severity in (1, 2, 3)], abs=1e-5)


def test_without_a_polyp_there_is_nothing_to_lose(run: RunFolder) -> None:
    with pytest.raises(UsageError, match="no held-out image with a polyp"):
        measure(run, np.zeros_like(TRUTHS))  # type: ignore[arg-type]


def test_a_run_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(FedpolypError, match="has no saved model"):
        measure(_Run(tmp_path), TRUTHS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("blur", "fog"), "kind"),
        (lambda text: text + "last:a,blur,1,2\n", "dice"),
        (lambda text: "".join(line for line in text.splitlines(True) if "jpeg,2" not in line), "every model, kind"),
        (lambda text: "".join(line for line in text.splitlines(True) if "last:b" not in line), "every model, kind"),
        (lambda text: text + text.splitlines(True)[-1], "every model, kind"),
    ],
)
def test_a_file_with_what_cannot_be_is_refused(run: RunFolder, change: Any, said: str) -> None:
    measure(run, TRUTHS)  # type: ignore[arg-type]
    run.robustness_file.write_text(change(run.robustness_file.read_text()))
    with pytest.raises(FedpolypError, match=rf"robustness.csv is damaged.*{said}"):
        robustness(_analysis(local=[run]))


def test_an_arm_that_was_not_measured_is_left_out(run: RunFolder, tmp_path: Path) -> None:
    measure(run, TRUTHS)  # type: ignore[arg-type]
    (tmp_path / "other").mkdir()
    found = robustness(_analysis(local=[run], fedavg=[run, RunFolder(tmp_path / "other")]))
    assert [one.arm for one in found] == ["local"]
