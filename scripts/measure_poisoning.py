"""Measures the effect of liars: federations of seven hospitals on drawn images, in which none, one or two lie.

Every run's held-out Dice after the last round goes to a file as soon as it is known; the same command goes on. Then the
table of means over the seeds is printed.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedpolyp.config import load
from fedpolyp.errors import FedpolypError
from fedpolyp.files import to_json, write_text

ALGORITHMS = ("fedavg", "median", "trimmed-mean", "krum", "multi-krum")
LIES = ("sign-flip", "scale", "noise", "label-flip")
LIARS = (1, 2)
SETTINGS: dict[str, Any] = {
    "data.image_size": 64,
    "data.phantom_images": 320,
    "data.seed": 0,
    "hospitals.count": 7,
    "model.base_filters": 8,
    "training.optimizer": "muon",
    "training.learning_rate": 0.01,
    "training.optimizer_state": "reset",
    "training.local_epochs": 2,
    "training.precision": "float32",
    "federation.rounds": 10,
    # So that the aggregates are measured, not the check before them, which refuses what goes too far.
    "federation.max_update_norm": 1e9,
}
FAILED = -1.0  # in the place of the Dice of a run that stopped


def main() -> int:
    """Run what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(prog="measure-poisoning", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("poisoning.json"), help="file of the Dice of every run")
    parser.add_argument("--seeds", type=int, default=3, help="seeds from 0 [3]")
    parser.add_argument("--rounds", type=int, default=SETTINGS["federation.rounds"], help="rounds of each run [10]")
    parser.add_argument("--checked", action="store_true", help="with the check of norms that every run has [without]")
    chosen = parser.parse_args()
    found = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}
    for seed in range(chosen.seeds):
        for name, settings in cases(chosen.checked):
            key = f"{name} {seed}"
            if key not in found:
                found[key] = dice(SETTINGS | settings | {"seed": seed, "federation.rounds": chosen.rounds})
                write_text(chosen.results, to_json(found, indent=0) + "\n")
                print(key, found[key], flush=True)
    print(table(found, chosen.seeds, chosen.checked))
    return 0


def cases(checked: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every case by name, and the settings that are its own."""
    for algorithm in ALGORITHMS:
        own: dict[str, Any] = {"algorithm.name": algorithm}
        if algorithm == "trimmed-mean":
            own["algorithm.trim"] = 0.3  # two of seven at either end
        if "krum" in algorithm:
            own["algorithm.byzantine"] = 2
        if checked:
            own["federation.max_update_norm"] = 10.0
        yield case(algorithm, "", 0, checked), own
        for lie in LIES:
            for liars in LIARS:
                names = ",".join(f"hospital-{number}" for number in range(1, liars + 1))
                yield case(algorithm, lie, liars, checked), own | {"federation.liars": names, "federation.lie": lie}


def case(algorithm: str, lie: str, liars: int, checked: bool) -> str:
    """A case's name in the results."""
    return " ".join(filter(None, [algorithm, f"{liars}", lie, "checked" if checked else ""]))


def dice(settings: dict[str, Any]) -> float:
    """The held-out Dice after the last round of a run with `settings`."""
    from fedpolyp import runs
    from fedpolyp.data.partition.assign import partition_images
    from fedpolyp.data.source import open_source
    from fedpolyp.rounds import here
    from fedpolyp.watcher import Watcher

    config = load(overrides=settings)
    store = open_source(config.data, config.data_seed)
    partition = partition_images(store.records, config, store)
    with tempfile.TemporaryDirectory() as folder:
        run = runs.create(Path(folder) / "run", config, partition, store.path)
        try:
            here.run(config, run, store, partition, Watcher())
        except FedpolypError:
            return FAILED
        return float(run.rounds()[-1]["dice"])


def table(found: dict[str, float], seeds: int, checked: bool) -> str:
    """Means over the seeds, without runs that stopped, which are counted."""
    columns = [("", 0), *((lie, liars) for lie in LIES for liars in LIARS)]
    lines = ["| | " + " | ".join("nobody lies" if not n else f"{lie}, {n}" for lie, n in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for algorithm in ALGORITHMS:
        cells = []
        for lie, liars in columns:
            values = [found.get(f"{case(algorithm, lie, liars, checked)} {seed}") for seed in range(seeds)]
            known = [value for value in values if value is not None]
            failed = sum(value == FAILED for value in known)
            good = [value for value in known if value != FAILED]
            mean = f"{sum(good) / len(good):.2f}" if good else ""
            cells.append(mean + (f" ({failed} stopped)" if failed else "") if known else "-")
        lines.append(f"| {algorithm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
