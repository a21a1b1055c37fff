"""The figures of a comparison: narrow enough to be read on a phone, and the same in the page and as PNG."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpolyp.experiment.conclusions import name, tested
from fedpolyp.experiment.findings import SIZES, Analysis, Arm, Curve
from fedpolyp.experiment.scores import OWN
from fedpolyp.experiment.statistics import Estimate
from fedpolyp.report.calibration import Calibration
from fedpolyp.report.style import Look, looks
from fedpolyp.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOSPITALS_DRAWN = 12

_NAME = 40  # characters of a hospital's name that are drawn
_WIDTH = 4.4  # inches; a phone shows this at about its own size
_PER_INCH, _KEY = 14, 7  # characters of a legend, and as how many of them a colour's key counts
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    # Text stays text: the reader's own fonts, to be searched and copied. Equal figures get equal bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "fedpolyp",
    # A name with dollar signs is not a formula.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Chart:
    """One figure: its file's name, its title, a description in words, and the figure."""

    file: str
    title: str
    description: str
    svg: str  # an <svg> element
    png: bytes


def draw_charts(analysis: Analysis, calibrations: Sequence[Calibration] = ()) -> dict[str, Chart]:
    """Every figure of the report by its file's name, without suffix."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return {chart.file: chart for chart in _charts(analysis, calibrations)}


def _charts(analysis: Analysis, calibrations: Sequence[Calibration]) -> Iterator[Chart]:
    arms = analysis.arms
    look = looks(arm.label for arm in arms)
    yield _dice_by_arm(arms, look)
    told = "; ".join(f"{name(arm.label)} ends at {np.mean([c.dice[-1] for c in arm.curves]):.3f}" for arm in arms)
    yield _curves("rounds", "Held-out Dice by round", told, arms, look, "round", lambda curve: curve.rounds)
    if analysis.budgets_differ:
        title = "Held-out Dice by training images seen"
        yield _curves("images-seen", title, told, arms, look, "images seen", lambda curve: curve.images)
    hospitals = sorted(analysis.partition.hospitals)
    if len(hospitals) <= HOSPITALS_DRAWN:
        for hospital, file in zip(hospitals, _file_names(hospitals), strict=True):
            if any(hospital in curve.hospitals for arm in arms for curve in arm.curves):
                title = f"Validation Dice by round at {printable(hospital, _NAME)}"
                yield _panel(hospital, f"validation-{file}", title, _at(hospital), arms, look)
    if any(arm.own_tests for arm in arms):
        yield _own_tests([arm for arm in arms if arm.own_tests], look)
    sources = sorted(analysis.partition.unseen)
    for source, file in zip(sources, _file_names(sources), strict=True):
        title = f"Dice by round on {printable(source, _NAME)}, which no hospital has"
        yield _panel(source, f"unseen-{file}", title, _on(source), arms, look)
    yield _by_size(analysis, look)
    if calibrations:
        yield _reliability(calibrations, look)


def _dice_by_arm(arms: Sequence[Arm], look: Mapping[str, Look]) -> Chart:
    figure, axes = _figure(0.75 + 0.5 * len(arms))
    for row, arm in enumerate(arms):
        _interval(axes, row - (0.12 if arm.best else 0), arm.last["dice"], look[arm.label], True)
        if arm.best:
            _interval(axes, row + 0.16, arm.best["dice"], look[arm.label], False)
        axes.annotate(
            f"{arm.last['dice'].value:.3f}",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=11,
            fontweight="bold",
            color="#222222",
            annotation_clip=False,
        )
    axes.set(ylim=(len(arms) - 0.5, -0.5), yticks=range(len(arms)), xlabel="Dice on the held-out images")
    axes.set_yticklabels([name(arm.label) for arm in arms], fontsize=11, color="#222222")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    told = "; ".join(f"{name(arm.label)} {_told(arm.last['dice'])}" for arm in arms)
    return _chart(figure, "arms", "Held-out Dice of each arm with 95 % intervals", told)


def _interval(axes: "Axes", y: float, found: Estimate, look: Look, filled: bool) -> None:
    colour = look.colour
    axes.plot([found.low, found.high], [y, y], color=colour, linewidth=2.4 if filled else 1.0, solid_capstyle="round")
    face = colour if filled else "white"
    axes.plot(found.value, y, look.marker, color=colour, markerfacecolor=face, markersize=8 if filled else 5)


def _curves(
    file: str,
    title: str,
    told: str,
    arms: Sequence[Arm],
    look: Mapping[str, Look],
    unit: str,
    place: Callable[[Curve], Sequence[float]],
) -> Chart:
    figure, axes = _figure(3.1)
    for arm in arms:
        if len(arm.curves) > 1:
            for curve in arm.curves:
                axes.plot(place(curve), curve.dice, color=look[arm.label].colour, linewidth=0.6, alpha=0.45)
        along, values = _mean_curve([(place(curve), curve.dice) for curve in arm.curves])
        _line(axes, along, values, arm.label, look[arm.label])
    axes.set(xlabel=unit, ylabel="Dice", xlim=(0, None))
    _finish(axes, unit)
    return _chart(figure, file, title, told)


def _file_names(hospitals: Sequence[str]) -> list[str]:
    """A part of a file's name for each hospital: its own name, if that can be part of a file's name and a page's id."""
    names: list[str] = []
    for number, hospital in enumerate(hospitals, 1):
        part = re.sub(r"[^A-Za-z0-9._-]", "_", hospital)[:40]
        names.append(part if part == hospital else f"{part}_{number}")
        if names[-1].lower() in (name.lower() for name in names[:-1]):
            names[-1] += f"_{number}"
    return names


def _panel(
    of: str,
    file: str,
    title: str,
    points: Callable[[Curve], Sequence[tuple[int, float]]],
    arms: Sequence[Arm],
    look: Mapping[str, Look],
) -> Chart:
    """A small chart of all arms' scores by round on one hospital's or source's images: `points` of each curve."""
    figure, axes = _figure(2.3, 3.4)
    told = []
    for arm in arms:
        curves = [list(zip(*found, strict=True)) for curve in arm.curves if (found := points(curve))]
        if curves:
            along, values = _mean_curve([(along, values) for along, values in curves])
            _line(axes, along, values, arm.label, look[arm.label])
            told.append(f"{name(arm.label)} ends at {values[-1]:.3f}")
    axes.set(xlabel="round", title=printable(of, _NAME), xlim=(0, None), ylim=(0, 1))
    _finish(axes, "round", legend=False)  # the page has one legend for all of these panels
    return _chart(figure, file, title, "; ".join(told), only_png=lambda: _legend(axes, 2))


def _at(hospital: str) -> Callable[[Curve], Sequence[tuple[int, float]]]:
    return lambda curve: curve.hospitals.get(hospital, ())


def _on(source: str) -> Callable[[Curve], Sequence[tuple[int, float]]]:
    return lambda curve: curve.unseen.get(source, ())


def _line(axes: "Axes", along: Sequence[float], values: Sequence[float], label: str, look: Look) -> None:
    often = max(1, len(along) // 6)
    style = {"color": look.colour, "marker": look.marker, "markevery": often, "markersize": 4}
    axes.plot(along, values, label=name(label), linewidth=1.6, **style)  # type: ignore[arg-type]


def _mean_curve(curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[list[float], list[float]]:
    """The mean over seeds, for the rounds that all of them have."""
    length = min(len(along) for along, _ in curves)
    return list(curves[0][0][:length]), np.mean([values[:length] for _, values in curves], axis=0).tolist()


def _own_tests(arms: Sequence[Arm], look: Mapping[str, Look]) -> Chart:
    hospitals = sorted({hospital for arm in arms for hospital in arm.own_tests})[:HOSPITALS_DRAWN]
    figure, axes = _figure(3.0)
    series = [(arm, kind, scores) for arm in arms for kind, scores in arm.tests.items()]
    width = 0.8 / len(series)
    for place, (arm, kind, scores) in enumerate(series):
        there = [at for at, hospital in enumerate(hospitals) if hospital in scores]
        found = [scores[hospitals[at]] for at in there]
        values = np.array([own.value for own in found])
        at = np.array(there) + (place - (len(series) - 1) / 2) * width
        colour, hatch = look[arm.label].colour, "///" if kind == OWN else None
        axes.bar(
            at, values, width * 0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=tested(arm, kind)
        )
        axes.vlines(at, [own.low for own in found], [own.high for own in found], color="#222222", linewidth=0.9)
    short = [printable(hospital.removeprefix("hospital-"), _NAME) for hospital in hospitals]
    axes.set(xticks=range(len(hospitals)), xticklabels=short, xlabel="hospital", ylabel="Dice", ylim=(0, 1))
    axes.tick_params(axis="x", length=0)
    _finish(axes, "")
    told = "; ".join(
        f"{tested(arm, kind)}: "
        + ", ".join(
            f"{printable(hospital, _NAME)} {scores[hospital].value:.3f}" for hospital in hospitals if hospital in scores
        )
        for arm, kind, scores in series
    )
    return _chart(figure, "own-tests", "Dice on each hospital's own test images with 95 % intervals", told)


def _by_size(analysis: Analysis, look: Mapping[str, Look]) -> Chart:
    figure, axes = _figure(2.8)
    arms = analysis.arms
    for place, arm in enumerate(arms):
        shown = [(size, found) for size, found in enumerate(arm.by_size) if found is not None]
        at = [size + (place - (len(arms) - 1) / 2) * 0.16 for size, _ in shown]
        axes.vlines(
            at, [f.low for _, f in shown], [f.high for _, f in shown], color=look[arm.label].colour, linewidth=2
        )
        style = {"color": look[arm.label].colour, "marker": look[arm.label].marker, "linestyle": "none"}
        axes.plot(at, [found.value for _, found in shown], label=name(arm.label), **style)  # type: ignore[arg-type]
    labels = [f"{size}\n{count} images" for size, count in zip(SIZES, analysis.size_counts, strict=True)]
    axes.set(xticks=range(len(SIZES)), xticklabels=labels, ylabel="Dice", ylim=(0, 1), xlim=(-0.5, len(SIZES) - 0.5))
    axes.tick_params(axis="x", length=0)
    _finish(axes, "")
    told = "; ".join(
        f"{name(arm.label)}: "
        + ", ".join(f"{size} {found.value:.3f}" for size, found in zip(SIZES, arm.by_size, strict=True) if found)
        for arm in arms
    )
    return _chart(figure, "lesion-size", "Held-out Dice by lesion size with 95 % intervals", told)


def _reliability(calibrations: Sequence[Calibration], look: Mapping[str, Look]) -> Chart:
    figure, axes = _figure(3.4)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="perfect calibration")
    for one in calibrations:
        style: dict[str, Any] = {"color": look[one.arm].colour, "marker": look[one.arm].marker, "markersize": 4}
        given, polyp, _ = zip(*one.curve, strict=True)
        axes.plot(given, polyp, label=name(one.arm), linewidth=1.6, **style)
    axes.set(xlabel="predicted probability", ylabel="share that is polyp", xlim=(0, 1), ylim=(0, 1))
    _finish(axes, "")
    told = "; ".join(f"{name(one.arm)}: expected calibration error {one.error:.4f}" for one in calibrations)
    return _chart(figure, "calibration", "Calibration over all pixels of the held-out images", told)


def _figure(height: float, width: float = _WIDTH) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: "Axes", unit: str, legend: bool = True) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if unit:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y")
    if legend:
        _legend(axes, 4)


def _legend(axes: "Axes", columns: int) -> None:
    lines, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    assert figure is not None
    # Matplotlib cuts off what is too wide. It fills its columns as array_split does.
    while columns > 1 and figure.get_figwidth() * _PER_INCH < sum(
        _KEY + max(map(len, column)) for column in np.array_split(np.array(labels, object), columns) if len(column)
    ):
        columns -= 1
    figure.legend(lines, labels, loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.4)


def _told(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _chart(
    figure: "Figure", file: str, title: str, description: str, only_png: Callable[[], None] = lambda: None
) -> Chart:
    vector, pixels = io.StringIO(), io.BytesIO()
    figure.savefig(vector, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    only_png()
    figure.savefig(pixels, format="png", dpi=200, metadata={"Software": None})
    return Chart(file, title, description, _inline(vector.getvalue(), file, title, description), pixels.getvalue())


def _inline(svg: str, prefix: str, title: str, description: str) -> str:
    """Only the <svg> element, as wide as its place, named for screen readers, with ids that are unique on the page."""
    from markupsafe import escape

    drawn = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', drawn)
    assert box is not None
    body = drawn[drawn.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'(?<=\bid=")|(?<=url\(#)|(?<=href="#)', f"{prefix}-", body)
    body = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", body)
    opening = f'<svg {box[0]} role="img" xmlns:xlink="http://www.w3.org/1999/xlink" aria-labelledby="{prefix}-title">'
    return f'{opening}<title id="{prefix}-title">{escape(title)}: {escape(description)}</title>{body.strip()}'
