"""`--threshold`, for `predict` and `evaluate`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.errors import UsageError

if TYPE_CHECKING:
    from fedpolyp.inference.predictor import Predictor

_VALIDATION = "validation"
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|validation",
        help="a pixel with at least this probability is polyp; validation: the one with the best validation Dice  "
        "[dim]\\[the model's own, 0.5][/dim]",
    ),
]


def refuse_threshold(given: str | None) -> None:
    """Raise a UsageError if `given` is not a threshold."""
    if given in (None, _VALIDATION):
        return
    try:
        there = 0 < float(str(given)) < 1
    except ValueError:
        there = False
    if not there:
        raise UsageError(f"--threshold must be above 0 and below 1, or 'validation'; got {given}")


def threshold_of(predictors: "Sequence[Predictor]", given: str | None) -> float:
    """The threshold that was `given` for a model, or the mean of several.

    Raises:
        UsageError: the validation threshold is asked for, but there are several models, or the model has none.
    """
    if given is None:
        return predictors[0].threshold
    if given != _VALIDATION:
        return float(given)
    if len(predictors) > 1:
        raise UsageError("--threshold validation is of one model, and several are averaged; give a number")
    if predictors[0].best_threshold is None:
        raise UsageError(f"{predictors[0].path} has no threshold chosen on validation; give a number")
    return predictors[0].best_threshold
