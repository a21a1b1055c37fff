"""`--threshold`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedpolyp.cli.thresholds import refuse_threshold, threshold_of
from fedpolyp.errors import UsageError


def _model(best: float | None) -> Any:
    return SimpleNamespace(threshold=0.5, best_threshold=best, path=Path("m.keras"))


@pytest.mark.parametrize("given", ["0", "1", "nan", "-0.5", "half", "best", ""])
def test_what_is_no_threshold_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=f"above 0 and below 1, or 'validation'; got {given}"):
        refuse_threshold(given)


def test_a_number_wins_and_the_one_of_validation_is_the_models() -> None:
    for given in (None, "0.2", "validation"):
        refuse_threshold(given)
    assert [threshold_of([_model(0.35)], given) for given in (None, "0.2", "validation")] == [0.5, 0.2, 0.35]


def test_the_threshold_of_validation_is_refused_where_there_is_none_or_more_than_one() -> None:
    with pytest.raises(UsageError, match="m.keras has no threshold chosen on validation"):
        threshold_of([_model(None)], "validation")
    with pytest.raises(UsageError, match="is of one model"):
        threshold_of([_model(0.3), _model(0.4)], "validation")
