"""Draws held-out Dice by round, and by images seen, from the scores that measure-results has kept.

python -m scripts.measured_curves scratch-iid pretrained-iid --out docs/images/measured-iid.png
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpolyp.files import replacing
from fedpolyp.report.style import looks
from scripts.measure_results import scores
from scripts.studies import STUDIES

IMAGES = 703  # training images, of which each is seen once in a round, in every arm
TITLES = {"scratch": "from random weights", "pretrained": "pretrained encoder"}


def main() -> int:
    """Draw the studies side by side."""
    parser = argparse.ArgumentParser(prog="measured_curves", description=__doc__)
    parser.add_argument("studies", nargs="+", choices=list(STUDIES))
    parser.add_argument("--results", type=Path, default=Path("results/measured"), help="folder of the scores")
    parser.add_argument("--out", type=Path, required=True, help="the picture, a .png file")
    chosen = parser.parse_args()
    draw(chosen.out, {name: scores(name, chosen.results) for name in chosen.studies})
    return 0


def draw(path: Path, studies: Mapping[str, Mapping[str, Mapping[int, Mapping[str, Any]]]]) -> None:
    """A panel for each study: each arm's mean over its seeds, between its lowest and its highest seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.2 * len(studies), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
    for axes, (study, arms) in zip(panels, studies.items(), strict=True):
        look = looks(arms)
        for arm, runs in arms.items():
            rounds = list(zip(*(run["dice"] for run in runs.values()), strict=True))
            mean = [sum(seeds) / len(seeds) for seeds in rounds]
            label = f"{arm} {mean[-1]:.3f} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
            axes.plot(mean, color=look[arm].colour, marker=look[arm].marker, markevery=5, markersize=5, label=label)
            lowest, highest = ([pick(seeds) for seeds in rounds] for pick in (min, max))
            axes.fill_between(range(len(mean)), lowest, highest, color=look[arm].colour, alpha=0.18, linewidth=0)
        axes.set(xlabel="round", ylim=(0, 1), title=TITLES.get(study.partition("-")[0], study))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        above = axes.secondary_xaxis("top", functions=(lambda x: x * IMAGES / 1000, lambda x: x * 1000 / IMAGES))
        above.set_xlabel("thousand images seen", fontsize=9)
        axes.legend(loc="lower right", fontsize=9, framealpha=0.85, edgecolor="none")
        axes.grid(alpha=0.25)
        axes.spines["right"].set_visible(False)
    panels[0].set_ylabel("held-out Dice, mean per image")
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
