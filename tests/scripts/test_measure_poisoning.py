"""The table of what liars do, of numbers that are known; no run is carried out here but a very small one."""

from typing import Any

import pytest

from scripts import measure_poisoning as measure


def test_every_case_has_a_cell_and_a_run_that_stopped_is_told() -> None:
    found = {f"{name} {seed}": 0.5 + seed / 10 for name, _ in measure.cases(False) for seed in (0, 1)}
    found["krum 1 noise 1"] = measure.FAILED
    lines = measure.table(found, 2, False).splitlines()
    assert lines[0] == (
        "| | nobody lies | sign-flip, 1 | sign-flip, 2 | scale, 1 | scale, 2 | noise, 1 | noise, 2 "
        "| label-flip, 1 | label-flip, 2 |"
    )
    assert len(lines) == 2 + len(measure.ALGORITHMS)
    assert lines[2] == "| fedavg" + " | 0.55" * 9 + " |"
    assert lines[5] == "| krum | 0.55 | 0.55 | 0.55 | 0.55 | 0.55 | 0.50 (1 stopped) | 0.55 | 0.55 | 0.55 |"


@pytest.mark.slow
@pytest.mark.parametrize("lie", [None, "sign-flip"])
def test_a_case_is_a_run_that_can_be_carried_out(lie: str | None) -> None:
    small: dict[str, Any] = {"data.image_size": 32, "data.phantom_images": 60, "federation.rounds": 1}
    small |= {"model.base_filters": 2, "training.local_epochs": 1}
    own = {} if lie is None else {"federation.liars": "hospital-1", "federation.lie": lie}
    assert 0 <= measure.dice(measure.SETTINGS | small | {"algorithm.name": "median"} | own) <= 1
