"""The picture of measured Dice by round."""

import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from matplotlib.axes import Axes

from scripts import measured_curves


def test_each_arm_has_a_line_of_its_means_and_is_named_with_its_last_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: dict[str, list[float]] = {}
    plot = Axes.plot

    def noted(self: Axes, values: Any, **look: Any) -> Any:
        lines[look["label"]] = list(values)
        return plot(self, values, **look)

    monkeypatch.setattr(Axes, "plot", noted)
    arms = {
        "fedavg": {0: {"dice": [0.1, 0.4]}, 1: {"dice": [0.3, 0.6]}},
        "pooled": {0: {"dice": [0.2, 0.8]}},
    }
    measured_curves.draw(tmp_path / "a.png", {"scratch-iid": arms, "pretrained-iid": arms})
    assert lines == {
        "fedavg 0.500 (2 seeds)": pytest.approx([0.2, 0.5]),
        "pooled 0.800 (1 seed)": pytest.approx([0.2, 0.8]),
    }
    drawn = cv2.imread(str(tmp_path / "a.png"))
    assert drawn is not None and drawn.shape[1] > 1000


def test_another_study_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["measured_curves", "nothing", "--out", "a.png"])
    with pytest.raises(SystemExit):
        measured_curves.main()
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
