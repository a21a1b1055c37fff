"""Trains the runs of the tables, each in a process with one thread; its scores are written to a file when it ends.

The same command goes on, in a run that was broken off, too. Where a study is complete its table is printed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from fedpolyp import __version__, processor
from fedpolyp.files import sole, to_json, write_text
from scripts.studies import STUDIES, Study

TRIED = Path(__file__).parent / "tried"  # where the algorithms of the study 'tried' are
START = "start"  # in the place of an arm: the run on drawn images from which a study's arms begin
_DIGITS = 4


def main() -> int:
    """Run what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(prog="measure-results", description=__doc__)
    parser.add_argument("--data", help="folder of Kvasir-SEG")
    parser.add_argument("--results", type=Path, default=Path("results/measured"), help="folder of the scores")
    parser.add_argument("--runs", type=Path, default=Path("runs/measured"), help="folder of the runs, while they go on")
    parser.add_argument("--only", action="append", choices=list(STUDIES), help="a study; may be repeated [all]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time [cores]")
    parser.add_argument("--seconds", type=float, help="begin no run after so many seconds [none]")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--one", nargs=3, metavar=("STUDY", "ARM", "SEED"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        study, arm, seed = chosen.one
        return carry(study, arm, int(seed), chosen)
    studies = chosen.only or list(STUDIES)
    failed = 0
    if not chosen.table:
        if not chosen.data:
            parser.error("--data must name the folder of Kvasir-SEG")
        failed = sum(train(studies, chosen))
    for name in studies:
        print(f"\n{name}\n\n{table(STUDIES[name], scores(name, chosen.results))}")
    return 1 if failed else 0


def train(studies: list[str], chosen: argparse.Namespace) -> list[bool]:
    """Carry out what is missing, all arms of a seed before the next seed; whether each has failed."""
    began = time.monotonic()
    todo = [
        (name, arm, seed)
        for name in studies
        for arm, seed in STUDIES[name].runs()
        if not file(chosen.results, name, arm, seed).exists()
    ]
    starts = {(name, seed): Lock() for name, _, seed in todo if STUDIES[name].start is not None}

    def begun(name: str, seed: int) -> None:
        with starts[name, seed]:
            if not run_folder(chosen.runs, name, START, seed).joinpath("model-last.keras").exists():
                carried((name, START, seed))

    def one(job: tuple[str, str, int]) -> bool:
        if chosen.seconds is not None and time.monotonic() - began > chosen.seconds:
            return False
        if (job[0], job[2]) in starts:
            begun(job[0], job[2])
        return carried(job)

    def carried(job: tuple[str, str, int]) -> bool:
        options = ["--data", chosen.data, "--results", str(chosen.results), "--runs", str(chosen.runs)]
        words = [sys.executable, "-P", "-m", "scripts.measure_results", *options, "--one", *map(str, job)]
        path = os.pathsep.join([str(Path(__file__).parents[1]), str(TRIED)])
        log = chosen.runs / f"{'-'.join(map(str, job))}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, stdout=stream, stderr=stream)
        print(*job, "done" if ended.returncode == 0 else f"failed: {log}", flush=True)
        return ended.returncode != 0

    with ThreadPoolExecutor(chosen.jobs) as pool:
        return list(pool.map(one, todo))


def carry(study: str, arm: str, seed: int, chosen: argparse.Namespace) -> int:
    """One run, from where it was broken off, to its end; its scores go to its file."""
    from fedpolyp import runs
    from fedpolyp.config import load
    from fedpolyp.data.partition.assign import partition_images
    from fedpolyp.data.source import open_source
    from fedpolyp.model.weights import noted
    from fedpolyp.report.finish import save_models
    from fedpolyp.rounds import here
    from fedpolyp.watcher import Watcher

    fixed: dict[str, Any] = {"data.seed": 0, "seed": seed, "training.threads": 1, "runtime.keep_checkpoints": 1}
    if arm == START:
        settings = dict(STUDIES[study].start or {})
    else:
        settings = {**STUDIES[study].shared, **STUDIES[study].arms[arm]}
        fixed["data.source"] = chosen.data
        if STUDIES[study].start is not None:
            fixed["model.initial_weights"] = str(run_folder(chosen.runs, study, START, seed))
    if (twin := of_another_study(study, arm, seed, chosen.results)) is not None:
        write_text(file(chosen.results, study, arm, seed), to_json(twin | {"settings": settings}) + "\n")
        return 0
    preset = settings.pop("preset", None)
    config = noted(load(None, preset, settings | fixed))
    folder = run_folder(chosen.runs, study, arm, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole(folder.parent / f".{folder.name}.lock", f"another process is at work on {folder}"):
        store = open_source(config.data, config.data_seed)
        partition = partition_images(store.records, config, store)
        run = runs.RunFolder(folder)
        if not run.config_file.exists():
            run = runs.create(folder, config, partition, store.path)
        here.run(run.config(), run, store, partition, Watcher())
        if arm == START:
            save_models(run)
            return 0
        kept = summary(run, settings | ({"preset": preset} if preset else {}))
        if config.privacy.on:
            kept["val_dice"] = validation(run, store)
        if config.privacy.on or STUDIES[study].attacked:
            kept["membership"] = membership(run, store)
        write_text(file(chosen.results, study, arm, seed), to_json(kept) + "\n")
        shutil.rmtree(folder)
    return 0


def of_another_study(study: str, arm: str, seed: int, results: Path) -> dict[str, Any] | None:
    """The scores of a run of another study with the same settings and seed, which has the same bits.

    None where there is no such run, and in studies with a start or an attack, which the settings do not tell.
    """
    if STUDIES[study].start is not None or STUDIES[study].attacked:
        return None
    for other, its in STUDIES.items():
        for own in its.arms if other != study and its.start is None else ():
            path = file(results, other, own, seed)
            if path.exists() and all_settings(other, own) == all_settings(study, arm):
                kept: dict[str, Any] = json.loads(path.read_text())
                return kept
    return None


def all_settings(study: str, arm: str) -> dict[str, Any]:
    """What an arm's runs are made of, beside the seed."""
    return {"algorithm.name": "fedavg", **STUDIES[study].shared, **STUDIES[study].arms[arm]}


def summary(run: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a run: every round's scores, and the Dice of each held-out image by the last model."""
    from fedpolyp.experiment.scores import HELD_OUT, LAST, read_scores

    rounds = run.rounds()
    rows = read_scores([run]).where(kind=LAST, set=HELD_OUT)
    last = rounds[-1]

    def by_hospital(score: str) -> dict[str, float | None]:
        return {name: rounded(own.get(score)) for name, own in sorted(last["hospitals"].items())}

    finetuned = by_hospital("own_test_dice")  # of models that hospitals keep beside the global one
    return {
        "settings": dict(settings),
        "version": __version__,
        "processor": processor.name(),
        "kernels": processor.kernels(),
        "precision": run.config().training.precision,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{name: [rounded(record[name]) for record in rounds] for name in ("dice", "val_dice", "loss")},
        "iou": rounded(last["iou"]),
        "over_pixels": rounded(rows.over_pixels),
        "test_dice": by_hospital("test_dice"),
        **({"own_test_dice": finetuned} if any(dice is not None for dice in finetuned.values()) else {}),
        "bytes_up": sum(record["bytes_up"] for record in rounds),
        "bytes_down": sum(record["bytes_down"] for record in rounds),
        "seconds": round(sum(record["seconds"] for record in rounds), 1),
        "images": [rounded(dice) for dice in rows.by_image(run.partition().heldout).tolist()],
    }


def validation(run: Any, store: Any) -> list[float | None]:
    """Dice on the hospitals' validation images, at the start and at the end, as if a hospital with privacy told it.

    Settings are chosen by it, as in other studies: the held-out images choose nothing.
    """
    from fedpolyp import checkpoints
    from fedpolyp.training import shared_trainer

    config, rounds = run.config(), run.config().federation.rounds
    positions = store.positions([id for own in run.partition().hospitals.values() for id in own.val])
    trainer = shared_trainer(config)
    last = checkpoints.load(run.checkpoints, rounds, run.fingerprint()).models[""]
    first, end = (
        rounded(trainer.evaluate(model, store.images[positions], store.masks[positions]).means()["dice"])
        for model in (trainer.initial, last)
    )
    return [first, *[None] * (rounds - 1), end]


def membership(run: Any, store: Any) -> dict[str, list[float | None]]:
    """For each signal the area under the ROC curve by which the last model gives its training images away.

    With its 95 % interval. In the local arm there are several models: their mean, and the widest interval.
    """
    from fedpolyp.privacy.attack import attack

    found: dict[str, list[Any]] = {}
    for row in attack(run, store).rows:
        if row.target.startswith("model"):
            found.setdefault(row.signal, []).append(row.success)
    return {
        signal: [
            rounded(statistics.fmean(one.auc for one in own)),
            rounded(min(one.low for one in own)),
            rounded(max(one.high for one in own)),
        ]
        for signal, own in found.items()
    }


def rounded(value: float | None) -> float | None:
    """`value` with the digits that are kept."""
    return None if value is None else round(value, _DIGITS)


def run_folder(runs: Path, study: str, arm: str, seed: int) -> Path:
    """Where a run is while it goes on; a start stays."""
    return runs / study / f"{arm}-{seed}"


def file(results: Path, study: str, arm: str, seed: int) -> Path:
    """Where a run's scores are."""
    return results / study / f"{arm}-{seed}.json"


def scores(study: str, results: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """What is known of a study, by arm and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for arm, seed in STUDIES[study].runs():
        if (path := file(results, study, arm, seed)).exists():
            found.setdefault(arm, {})[seed] = json.loads(path.read_text())
    return found


def table(study: Study, found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """The last round's means over the seeds that are there, and the lowest and highest seed's held-out Dice.

    With the held-out Dice of the model that the rounds began from, too.
    """
    lines = [
        "| arm | seeds | validation Dice | held-out Dice | lowest to highest | at the start | over pixels | MB up |",
        "|---" * 8 + "|",
    ]
    for arm in study.arms:
        runs = list(found.get(arm, {}).values())
        if not runs:
            lines.append(f"| {arm} | 0 | | | | | | |")
            continue
        val, held = [run["val_dice"][-1] for run in runs], [run["dice"][-1] for run in runs]
        cells = [f"{statistics.fmean(val):.3f}", f"{statistics.fmean(held):.3f}", f"{min(held):.3f} to {max(held):.3f}"]
        cells += [f"{statistics.fmean(run['dice'][0] for run in runs):.3f}"]
        cells += [f"{statistics.fmean(run['over_pixels'] for run in runs):.3f}"]
        cells += [f"{statistics.fmean(run['bytes_up'] for run in runs) / 1e6:,.0f}"]
        lines.append(f"| {arm} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
