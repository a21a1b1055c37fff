"""`scripts/benchmark`: measures fedpolyp's speed against its goals, prints one table and saves it as JSON."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedpolyp.files import write_text
from scripts.benchmarks import kinds
from scripts.benchmarks.bare import loops
from scripts.benchmarks.job import Job, Simulated, machine, median, simulate


def main() -> int:
    """Measure; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the first row, on a small job")
    parser.add_argument("--peers", action="store_true", help="also beside PyTorch and NVIDIA FLARE: installs 4 GB")
    parser.add_argument("--avx2", action="store_true", help="only AVX2's steps beside PyTorch's: installs 1 GB")
    parser.add_argument("--kinds", action="store_true", help="only the rows about kernels, optimizer, encoder, traffic")
    parser.add_argument("--data", help="folder of images; the phantom without it")
    parser.add_argument("--rounds", type=int, help="rounds of the job  [20; --quick: 8]")
    parser.add_argument("--hospitals", type=int, default=1000, help="how many for the row about many  [1000]")
    parser.add_argument("--save", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if given.rounds is not None and given.rounds < 6:
        parser.error(f"--rounds is {given.rounds}; it must be 6 or more, for the job is done in halves of 3")
    console = Console(highlight=False)
    console.print(f"{machine()}, {date.today()}")
    size = "64" if given.quick else "128"
    options = ("--image-size", size, "--hospitals", "5", "--actors", "2", "--optimizer", "adam")
    options += ("--data", given.data) if given.data else ("--phantom-images", "998")
    rounds = given.rounds or (8 if given.quick else 20)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        parts: list[Iterable[dict[str, Any]]] = []
        if given.avx2:
            from scripts.benchmarks import peers

            size_of = peers.QUICK if given.quick else replace(peers.FULL, turns=5)
            parts.append(peers.torch_rows(size_of, console.print, [peers.AVX2]))
        if not given.avx2 and not given.kinds:
            parts.append(
                measured(Job(options, rounds), Path(folder), given.quick, given.peers, given.hospitals, console)
            )
        if given.kinds or not (given.avx2 or given.quick):
            parts.append(kinds.rows(row, int(size), console.print))
        for one in chain.from_iterable(parts):
            found.append(one)
            console.print(f"  {one['what']}: {one['measured']}, {one['ratio']} of {one['goal']}, {verdict(one)}")
            if given.save:
                about = {"machine": machine(), "date": str(date.today()), "command": command(given)}
                write_text(given.save, json.dumps(about | {"rows": found}, indent=1) + "\n")
    table = Table("what", "measured", "against", "ratio", "goal", "", box=None, title_justify="left")
    for one in found:
        table.add_row(*[str(one[name]) for name in ("what", "measured", "against", "ratio", "goal")], verdict(one))
    console.print(table)
    missed, unknown = ([one["what"] for one in found if one["met"] is met] for met in (False, None))
    print(conclusion(missed, unknown))
    return 1 if missed else 0


def command(given: argparse.Namespace) -> str:
    """The command that makes the table, without where things lie on this machine."""
    chosen = [f"--{name}" for name in ("quick", "peers", "avx2", "kinds") if getattr(given, name)]
    return " ".join(["scripts/benchmark", *chosen, *(["--data FOLDER"] if given.data else [])])


def conclusion(missed: list[str], unknown: list[str]) -> str:
    """The last line: which goals were missed, and which could not be measured."""
    said = [f"missed: {'; '.join(missed)}" if missed else "all goals that were measured are met"]
    return ". ".join(said + ([f"not measured: {'; '.join(unknown)}"] if unknown else []))


def measured(
    job: Job, folder: Path, quick: bool, with_peers: bool, hospitals: int, console: Console
) -> Iterator[dict[str, Any]]:
    """The table's rows, each as soon as it is known."""
    # Halves in turns: what the machine does besides is shared by both sides.
    runs, bare = [], []
    for half in (1, 2):
        console.print(f"simulate, {half} of 2")
        runs.append(simulate(Job(job.options, job.rounds // 2), folder / f"simulate-{half}"))
        console.print(f"bare loops, {half} of 2")
        bare += loops(runs[0].run.path, job.rounds // 2)
    one, alone = median([second for run in runs for second in run.seconds()]), median(bare)
    yield row("a round of simulate, seconds", one, alone, 1.07, "bare loops in two processes")
    if quick:
        yield from beside_peers(runs[-1], quick, console) if with_peers else []
        return
    console.print("simulate, whole")
    runs.append(simulate(job, folder / "simulate"))
    complete = runs[-1]
    # Their Adam is new in each training: so must it be in what their Dice is compared with.
    console.print("simulate with Adam reset, 3 rounds")
    runs.append(simulate(Job((*job.options, "--optimizer-state", "reset"), 3), folder / "reset"))
    reset, starts = runs[-1].run, sorted(run.begun for run in runs)
    what = f"seconds until round 0 is scored and saved and the first orders to train go out ({len(starts)} starts, "
    yield row(f"{what}{starts[0]:.1f} to {starts[-1]:.1f})", median(starts), None, 9.0, "")
    for label, cpus, goal in (("its default resources", 2, 6.0), ("two actors", 1, 4.0)):
        console.print(f"the pattern of Flower's Keras example, {label}")
        theirs, seconds, dice = keras_example(reset.path, 3, cpus)
        # The first round starts up, once; a later one stands for those that were not done.
        theirs += median(seconds[1:]) * (job.rounds - len(seconds))
        yield row(
            f"Flower's Keras pattern, {label}: seconds of the whole job (computed from {len(seconds)} rounds; "
            f"Dice {dice:.3f} after {len(seconds)})",
            theirs,
            complete.whole,
            goal,
            f"simulate; Dice {reset.rounds()[-1]['dice']:.3f} after as many, with Adam reset, too",
            at_least=True,
        )
    yield from beside_peers(complete, quick, console) if with_peers else []
    console.print(f"{hospitals} hospitals, 20 a round")
    yield from many(hospitals, folder)
    console.print("memory over 100 rounds")
    tiny = ("--image-size", "32", "--phantom-images", "60", "--hospitals", "3", "--base-filters", "4", "--actors", "2")
    long = simulate(Job(tiny, 100), folder / "long")
    for who in ("driver", "actor"):
        what = f"memory of the {who} (PSS) after 99 rounds, MB"
        yield row(what, long.memory_after(99)[who] / 1e6, long.memory_after(5)[who] / 1e6, 1.03, "after 5")


def beside_peers(simulated: Simulated, quick: bool, console: Console) -> list[dict[str, Any]]:
    """Others at the same work."""
    from scripts.benchmarks import peers

    return peers.rows(simulated.run, simulated.whole, peers.QUICK if quick else peers.FULL, console.print)


def many(hospitals: int, folder: Path) -> list[dict[str, Any]]:
    """Many hospitals of which 20 take part in a round, against 20 with as many images each."""
    each = 8
    both: list[Simulated] = []
    for count, fraction in ((20, 1.0), (hospitals, 20 / hospitals)):
        options = ["--image-size", "64", "--base-filters", "8", "--hospitals", str(count), "--fraction", str(fraction)]
        options += ["--optimizer", "adam", "--actors", "2"]
        options += ["--phantom-images", str(round(count * each + 120)), "--held-out", str(120 / (count * each + 120))]
        both.append(simulate(Job(tuple(options), 8), folder / f"many-{count}"))
    few, lots = both
    memory = [run.memory_after(7)["all"] / 1e6 for run in both]
    return [
        row(
            f"a round of 20 of {hospitals} hospitals, seconds", median(lots.seconds()), median(few.seconds()), 1.1, "20"
        ),
        row("its memory (PSS), driver and actors, MB", memory[1], memory[0], 1.2, "20"),
    ]


def keras_example(run: Path, rounds: int, cpus: int) -> tuple[float, list[float], float]:
    """Seconds of it all and of each round, and the last Dice."""
    program = Path(__file__).with_name("keras_example.py")
    # Each of two actors has one thread, as ours have: with more they would get into each other's way.
    threads = {"TF_NUM_INTRAOP_THREADS": "1"} if cpus == 1 else {}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(program), str(run), str(rounds), str(cpus)],
        capture_output=True,
        text=True,
        env=os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"} | threads,
    )
    if done.returncode:
        raise RuntimeError(f"{program.name} failed:\n{done.stderr[-3000:]}")
    whole = time.monotonic() - began
    said = json.loads(done.stdout.splitlines()[-1])
    return whole, said["seconds"], said["dice"]


def row(
    what: str, value: float, against: float | None, goal: float, other: str, at_least: bool = False
) -> dict[str, Any]:
    """One row; the ratio is `value` over `against`, or `value` itself where there is nothing to compare with."""
    ratio = value if against is None else value / against
    return {
        "what": what,
        "measured": round(value, 2),
        "against": "" if against is None else f"{against:.2f} {other}",
        "ratio": round(ratio, 3),
        "goal": f"{'≥' if at_least else '≤'} {goal:g}",
        "met": ratio >= goal if at_least else ratio <= goal,
    }


def verdict(row: dict[str, Any]) -> str:
    """The row's last column."""
    if row["met"] is None:
        return "not measured"
    return "met" if row["met"] else "missed"


if __name__ == "__main__":
    sys.exit(main())
