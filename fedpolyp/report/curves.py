"""curves.png: Dice and loss by round, overall and for each hospital."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpolyp.files import replacing
from fedpolyp.report.rounds import Points, best_on_validation, mean_train_loss
from fedpolyp.report.style import BLUE, GREEN, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOSPITALS_DRAWN = 20


def draw_curves(path: Path, rounds: list[dict[str, Any]]) -> None:
    """Draw the records of rounds.jsonl (at least one) as two panels: Dice on the left, loss on the right.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)

    _draw_hospitals(left, rounds, "val_dice", "validation, each hospital")
    _draw(left, [(r["round"], r["val_dice"]) for r in rounds if r["val_dice"] is not None], VERMILION, "validation")
    _draw(left, [(r["round"], r["dice"]) for r in rounds], BLUE, "held-out set", 2.2)
    last, best = rounds[-1], best_on_validation(rounds)
    label = f"last round ({last['round']}): {last['dice']:.3f}"
    left.plot(last["round"], last["dice"], "o", color=BLUE, label=label, zorder=4, clip_on=False)
    if best is not None:
        label = f"best on validation ({best['round']}): {best['dice']:.3f}"
        ring = {"markersize": 11, "markeredgewidth": 1.6, "clip_on": False}
        left.plot(best["round"], best["dice"], "o", color=BLUE, fillstyle="none", label=label, zorder=4, **ring)

    _draw_hospitals(right, rounds, "train_loss", "training, each hospital")
    _draw(right, mean_train_loss(rounds), GREEN, "training, mean of hospitals", 2.2)
    _draw(right, [(r["round"], r["loss"]) for r in rounds if r["loss"] is not None], BLUE, "held-out set", 2.2)

    left.set(title="Dice, mean per image", ylim=(0, 1))
    right.set(title="Loss", ylim=(0, None))
    for axes, corner in ((left, "lower right"), (right, "upper right")):
        axes.set(xlabel="round", xlim=(0, max(1, last["round"])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc=corner, fontsize=9, framealpha=0.85, edgecolor="none")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)


def _draw_hospitals(axes: "Axes", rounds: list[dict[str, Any]], key: str, label: str) -> None:
    names = sorted({name for record in rounds for name, own in record["hospitals"].items() if key in own})
    if len(names) > _HOSPITALS_DRAWN:
        return
    for name in names:
        points = [(r["round"], r["hospitals"][name][key]) for r in rounds if key in r["hospitals"].get(name, {})]
        _draw(axes, points, "0.7", label if name == names[0] else "_", 0.9)


def _draw(axes: "Axes", points: Points, colour: str, label: str, width: float = 1.6) -> None:
    if points:
        marker = "." if len(points) == 1 else ""  # a line through a single point is invisible
        numbers, values = zip(*points, strict=True)
        axes.plot(numbers, values, color=colour, label=label, linewidth=width, marker=marker, clip_on=False)
