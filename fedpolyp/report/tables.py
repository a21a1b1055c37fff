"""The numbers of a comparison as CSV tables."""

from collections.abc import Iterable, Sequence

from fedpolyp import cells
from fedpolyp.experiment.findings import SIZES, Analysis
from fedpolyp.experiment.scores import BEST, LAST, METRICS
from fedpolyp.experiment.statistics import Estimate
from fedpolyp.inference.corruption import SEVERITIES
from fedpolyp.report.calibration import Calibration
from fedpolyp.report.holdings import COLUMNS, rows
from fedpolyp.report.robustness import Robustness

_MIX = ("images", "without_lesion", *SIZES)  # of a hospital's test images
Row = Sequence[str | float | None]


def tables(analysis: Analysis, calibrations: Sequence[Calibration], robust: Sequence[Robustness]) -> dict[str, str]:
    """Every table as CSV text, by its file's name without suffix."""
    return {
        "arms": csv_text(("arm", "seeds", "model", "score", "value", "low", "high"), _arms(analysis)),
        "differences": csv_text(
            ("arm", "other", "seeds", "model", "difference", "low", "high", "p", "p_holm"), _differences(analysis)
        ),
        "sites": csv_text(("arm", "trained_at", "set", "dice"), _sites(analysis)),
        "own-tests": csv_text(("arm", "model", "hospital", "dice", "low", "high", *_MIX), _own_tests(analysis)),
        "hospitals": csv_text(COLUMNS, _hospitals(analysis)),
        "unseen": csv_text(("arm", "source", "dice", "low", "high"), _unseen(analysis)),
        "lesion-size": csv_text(("arm", "lesions", "images", "dice", "low", "high"), _sizes(analysis)),
        "curves": csv_text(("arm", "seed", "round", "images_seen", "dice"), _curves(analysis)),
        "cost": csv_text(
            ("arm", "rounds", "images_seen", "steps", "bytes_up_a_hospital", "bytes_down_a_hospital"),
            _cost(analysis),
        ),
        "calibration": csv_text(("arm", "error", "error_with_temperature"), _calibration(calibrations)),
        "robustness": csv_text(("arm", "kind", "severity", "dice"), _robustness(robust)),
    }


def csv_text(headings: Sequence[str], rows: Iterable[Row]) -> str:
    """A table as CSV; texts that a spreadsheet would take for formulas are guarded."""
    return cells.csv_text(headings, ([_cell(value) for value in row] for row in rows))


def _cell(value: str | float | None) -> str | float | None:
    if isinstance(value, float):
        return round(value, 6)
    return cells.guarded(value) if isinstance(value, str) else value


def _of(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _arms(analysis: Analysis) -> Iterable[Row]:
    for arm in analysis.arms:
        for model, scores in ((LAST, arm.last), (BEST, arm.best)):
            for metric in METRICS:
                if metric in scores:
                    yield arm.label, len(arm.seeds), model, metric, *_of(scores[metric])
            if model in arm.over_pixels:
                yield arm.label, len(arm.seeds), model, "dice_over_pixels", arm.over_pixels[model], None, None
        for name, value in arm.without_polyp.items():
            yield arm.label, len(arm.seeds), LAST, f"without_polyp_{name}", value, None, None


def _differences(analysis: Analysis) -> Iterable[Row]:
    for one in analysis.differences:
        yield one.arm, one.other, len(one.seeds), LAST, *_of(one.last), f"{one.p:.3g}", f"{one.p_adjusted:.3g}"
        if one.best is not None:
            yield one.arm, one.other, len(one.seeds), BEST, *_of(one.best), None, None


def _sites(analysis: Analysis) -> Iterable[Row]:
    for row in analysis.sites:
        for of, dice in row.dice.items():
            yield row.arm, row.hospital or "everywhere", of, dice


def _own_tests(analysis: Analysis) -> Iterable[Row]:
    mix = analysis.test_mix
    for arm in analysis.arms:
        for kind, scores in arm.tests.items():
            for hospital, found in scores.items():
                own = mix.get(hospital)
                counts: Sequence[float | None] = (None,) * len(_MIX) if own is None else (sum(own), *own)
                yield arm.label, kind, hospital, *_of(found), *counts


def _hospitals(analysis: Analysis) -> Iterable[Row]:
    if analysis.composition is not None:
        yield from rows(analysis.composition, analysis.partition)


def _unseen(analysis: Analysis) -> Iterable[Row]:
    for arm in analysis.arms:
        for source, found in arm.unseen.items():
            yield arm.label, source, *_of(found)


def _sizes(analysis: Analysis) -> Iterable[Row]:
    for arm in analysis.arms:
        for size, count, found in zip(SIZES, analysis.size_counts, arm.by_size, strict=True):
            if found is not None:
                yield arm.label, size, count, *_of(found)


def _curves(analysis: Analysis) -> Iterable[Row]:
    for arm in analysis.arms:
        for curve in arm.curves:
            for number, images, dice in zip(curve.rounds, curve.images, curve.dice, strict=True):
                yield arm.label, curve.seed, number, images, dice


def _cost(analysis: Analysis) -> Iterable[Row]:
    for arm in analysis.arms:
        cost = arm.cost
        yield arm.label, cost.rounds, cost.images, cost.steps, cost.bytes_up, cost.bytes_down


def _calibration(calibrations: Sequence[Calibration]) -> Iterable[Row]:
    for one in calibrations:
        yield one.arm, one.error, one.with_temperature


def _robustness(robust: Sequence[Robustness]) -> Iterable[Row]:
    for one in robust:
        for kind, dices in one.dice.items():
            for severity, dice in zip(SEVERITIES, dices, strict=True):
                yield one.arm, kind, severity, dice
