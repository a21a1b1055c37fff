"""Writes the tables of measured scores into the docs, from the files that measure-results has kept.

A page has a pair of comments, <!-- measured: KIND STUDY --> and <!-- end -->, around each such table.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedpolyp.experiment.conclusions import name
from fedpolyp.files import write_text
from scripts import measure_poisoning
from scripts.measure_results import scores
from scripts.studies import STUDIES

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = Path(__file__).parents[1] / "results" / "measured"
_TABLE = re.compile(r"<!-- measured: (\S+) (\S+) -->\n.*?<!-- end -->", re.DOTALL)

Runs = Mapping[int, Mapping[str, Any]]  # of an arm, by seed


def main() -> int:
    """Write the tables of all pages."""
    parser = argparse.ArgumentParser(prog="measured_tables", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the scores")
    chosen = parser.parse_args()
    for page in sorted(DOCS.glob("*.md")):
        if (text := written(before := page.read_text(), chosen.results)) != before:
            write_text(page, text)
            print(page.name)
    return 0


def written(text: str, results: Path) -> str:
    """The page `text` with the tables of today's `results`."""

    def table(found: re.Match[str]) -> str:
        kind, study = found.groups()
        lines = poisoning(results) if kind == "poisoning" else KINDS[kind](study, scores(study, results))
        return f"<!-- measured: {kind} {study} -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"

    return _TABLE.sub(table, text)


def by_rate(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a study of rates, grouped by algorithm, each group from the best validation Dice to the worst."""
    rows = [
        "| arm | setting | validation Dice | held-out Dice | over pixels | seeds |",
        "|---|---|---|---|---|---|",
    ]
    settings = {arm: STUDIES[study].arms[arm] for arm in found}
    for algorithm in dict.fromkeys(own["algorithm.name"] for own in settings.values()):
        arms = [arm for arm, own in settings.items() if own["algorithm.name"] == algorithm]
        arms.sort(key=lambda arm: -validation(found[arm]))
        for arm in arms:
            best = bold(validation(found[arm])) if arm == arms[0] else f"{validation(found[arm]):.3f}"
            rows.append(
                f"| {name(algorithm)} | {setting(settings[arm])} | {best} | {held_out(found[arm]):.3f} "
                f"| {mean(found[arm], 'over_pixels'):.3f} | {len(found[arm])} |"
            )
    return rows


def by_arm(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a study, from the best held-out Dice to the worst."""
    rows = [
        "| arm | held-out Dice | lowest to highest seed | over pixels | validation | own tests (weakest) | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in sorted(found, key=lambda arm: -held_out(found[arm])):
        seeds = [run["dice"][-1] for run in found[arm].values()]
        spread = f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else ""
        rows.append(
            f"| {name(arm)} | {bold(held_out(found[arm]))} | {spread} "
            f"| {mean(found[arm], 'over_pixels'):.3f} | {validation(found[arm]):.3f} "
            f"| {own_tests(found[arm], statistics.fmean):.3f} ({own_tests(found[arm], min):.3f}) | {len(seeds)} |"
        )
    return rows


def by_algorithm(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a study, from the best held-out Dice to the worst; differences from FedAvg, seed by seed."""
    rows = [
        "| arm | held-out Dice | over FedAvg, mean (lowest to highest seed) | validation "
        "| own tests (weakest) | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for arm, runs in sorted(found.items(), key=lambda item: -held_out(item[1])):
        rows.append(
            f"| {name(arm)} | {bold(held_out(runs))} | {over(runs, found.get('fedavg', {}))} | {validation(runs):.3f} "
            f"| {own_tests(runs, statistics.fmean):.3f} ({own_tests(runs, min):.3f}) | {len(runs)} |"
        )
    return rows


def over(runs: Runs, others: Runs) -> str:
    """How much higher the held-out Dice of `runs` is than that of `others` with the same seed."""
    if runs is others or not (shared := [seed for seed in runs if seed in others]):
        return ""
    differences = [runs[seed]["dice"][-1] - others[seed]["dice"][-1] for seed in shared]
    spread = f" ({min(differences):+z.3f} to {max(differences):+z.3f})" if len(shared) > 1 else ""
    return f"{statistics.fmean(differences):+z.3f}{spread}"


def by_traffic(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a study with what a hospital sends in a round; differences from the first arm, seed by seed."""
    rows = [
        "| arm | MB a hospital sends in a round | validation Dice | held-out Dice "
        "| over the first, mean (lowest to highest seed) | seeds |",
        "|---|---|---|---|---|---|",
    ]
    first = next(iter(found.values()), {})
    for arm, runs in found.items():
        sent = statistics.fmean(
            run["bytes_up"] / (len(run["dice"]) - 1) / len(run["test_dice"]) for run in runs.values()
        )
        rows.append(
            f"| {arm} | {sent / 1e6:.2f} | {validation(runs):.3f} | {bold(held_out(runs))} | {over(runs, first)} "
            f"| {len(runs)} |"
        )
    return rows


def by_membership(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a study with how well their last models give their training images away."""
    rows = [
        "| arm | held-out Dice | area under ROC, by loss | calibrated with the start | seeds |",
        "|---|---|---|---|---|",
    ]
    for arm, runs in found.items():
        rows.append(
            f"| {arm} | {bold(held_out(runs))} | {remembered(runs, 'loss')} | {remembered(runs, 'calibrated')} "
            f"| {len(runs)} |"
        )
    return rows


def by_promise(study: str, found: Mapping[str, Runs]) -> list[str]:
    """The arms of a private study: what they have gained over their start, and what their models remember."""
    rows = [
        "| | held-out Dice | over the start | validation Dice | membership by loss: area under ROC | seeds |",
        "|---|---|---|---|---|---|",
    ]
    if found:
        begun = [run for runs in found.values() for run in runs.values()]
        start, val = (statistics.fmean(run[score][0] for run in begun) for score in ("dice", "val_dice"))
        rows.append(f"| the start | {start:.3f} | | {val:.3f} | | |")
    for arm, runs in found.items():
        gained = statistics.fmean(run["dice"][-1] - run["dice"][0] for run in runs.values())
        rows.append(
            f"| {arm.replace('-', ' ')} | {bold(held_out(runs))} | {gained:+.3f} | {validation(runs):.3f} "
            f"| {remembered(runs, 'loss')} | {len(runs)} |"
        )
    return rows


def poisoning(results: Path) -> list[str]:
    """The table of `scripts/measure-poisoning`, without the check of norms."""
    found = json.loads((results / "poisoning.json").read_text())
    return measure_poisoning.table(found, 3, False).splitlines()


KINDS: dict[str, Callable[[str, Mapping[str, Runs]], list[str]]] = {
    "rates": by_rate,
    "arms": by_arm,
    "algorithms": by_algorithm,
    "traffic": by_traffic,
    "membership": by_membership,
    "promises": by_promise,
}


def validation(runs: Runs) -> float:
    """The mean over seeds of the last round's validation Dice."""
    return statistics.fmean(run["val_dice"][-1] for run in runs.values())


def held_out(runs: Runs) -> float:
    """The mean over seeds of the last round's held-out Dice."""
    return statistics.fmean(run["dice"][-1] for run in runs.values())


def mean(runs: Runs, score: str) -> float:
    """The mean over seeds of `score`."""
    return statistics.fmean(run[score] for run in runs.values())


def own_tests(runs: Runs, of: Callable[[list[float]], float]) -> float:
    """The mean over seeds of the mean or least Dice `of` hospitals on their own test images.

    By the model that a hospital uses in the end: its own where it has been fine-tuned.
    """
    scores = [run.get("own_test_dice", run["test_dice"]).values() for run in runs.values()]
    return statistics.fmean(of([dice for dice in own if dice is not None]) for own in scores)


def remembered(runs: Runs, signal: str) -> str:
    """The mean over seeds of the area under the ROC curve by `signal`, and the widest of their 95 % intervals."""
    areas, lows, highs = zip(*(run["membership"][signal] for run in runs.values()), strict=True)
    return f"{statistics.fmean(areas):.2f} ({min(lows):.2f} to {max(highs):.2f})"


def setting(own: Mapping[str, Any]) -> str:
    """What distinguishes an arm from others of its algorithm: optimizer and rate, or the algorithm's own setting."""
    if "training.optimizer" in own:
        return f"{own['training.optimizer'].title()} {own['training.learning_rate']:g}"
    chosen = {key.removeprefix("algorithm."): value for key, value in own.items() if key != "algorithm.name"}
    return ", ".join(f"`--{key.replace('_', '-')} {value:g}`" for key, value in chosen.items())


def bold(score: float) -> str:
    """A score in bold."""
    return f"**{score:.3f}**"


if __name__ == "__main__":
    raise SystemExit(main())
