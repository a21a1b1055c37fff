"""The rows that compare fedpolyp with other programs, each in its own environment."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpolyp.config import Config, load
from fedpolyp.planning import planned, this_machine
from fedpolyp.runs import RunFolder
from scripts.benchmarks.run import row
from scripts.benchmarks.steps import Failed, Measured, Side, side_by_side

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = Path.home() / ".cache" / "fedpolyp" / "peers"
OURS = "fedpolyp"
SPREADS = ((2, 1), (1, 2))  # processes and threads of each; the first is what fedpolyp does unasked on two cores
KEPT = " with memory kept"
# glibc gives large blocks back to the system at once and PyTorch asks for the same ones in the next step: a seventh of
# its time. TensorFlow gains nothing from keeping them.
MEMORY_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
AVX2 = "float32 with kernels for AVX2 alone"
# As on a processor that has nothing newer, for oneDNN in both programs and for PyTorch's own kernels.
KERNELS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
THREADS = 2  # of NVIDIA FLARE's simulator, tried beside what it does unasked: hospitals that it trains at a time


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    image_size: int
    filters: int
    batch: int
    steps: int  # in a turn
    turns: int
    rounds: int  # of NVIDIA FLARE
    compile: bool  # PyTorch, which takes minutes the first time


FULL = Size(image_size=128, filters=16, batch=8, steps=8, turns=9, rounds=2, compile=True)
QUICK = Size(image_size=32, filters=4, batch=4, steps=4, turns=3, rounds=1, compile=False)

Say = Callable[[str], object]


class Unavailable(Exception):
    """A peer cannot be installed or does not run here; the text is one sentence."""


def rows(run: RunFolder, whole: float, size: Size, say: Say) -> list[dict[str, Any]]:
    """The table's rows about others.

    Args:
        run: a run that `fedpolyp simulate` did.
        whole: how long it took, from the start of its process to the end, seconds.
        size: how much to measure.
        say: told what is being done.
    """
    table = torch_rows(size, say)
    try:
        table.append(nvflare_row(run, whole, size.rounds, say))
    except Unavailable as reason:
        table.append(not_measured("the whole job beside NVIDIA FLARE's simulator", str(reason)))
    return table


def not_measured(what: str, why: str) -> dict[str, Any]:
    """A row that says why there are no numbers in it; it neither meets a goal nor misses one."""
    return {"what": f"{what}: {why}", "measured": "", "against": "", "ratio": "", "goal": "", "met": None}


def environment(name: str, say: Say) -> Path:
    """The Python of an environment with what peers-`name`.txt lists, made if need be.

    Raises:
        Unavailable: it could not be made.
    """
    requirements = HERE / f"peers-{name}.txt"
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    made_of = "\n".join([sys.version, *(file.read_text("utf-8") for file in (requirements, ROOT / "constraints.txt"))])
    if stamp.exists() and python.exists() and stamp.read_text(encoding="utf-8") == made_of:
        return python
    say(f"installing {requirements.name} into {folder}")
    make = (sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check")
    for command in (make, (*pip, "install", "--retries", "1", "--requirement", str(requirements))):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            raise Unavailable(f"{requirements.name} could not be installed ({said[-1].removeprefix('ERROR: ')})")
    stamp.write_text(made_of, encoding="utf-8")
    return python


def torch_rows(size: Size, say: Say, how: Sequence[str] = ("float32", "mixed_bfloat16", AVX2)) -> list[dict[str, Any]]:
    """Images a second of training steps in each precision or with kernels for AVX2 alone, and as both do them unasked.

    All start from the same weights and see the same batches, without augmentation; that their first losses agree is
    checked. Ours is the speed of the first of SPREADS, theirs the best of what was tried. Where PyTorch cannot be
    installed or does not run, one row says so.
    """
    table = []
    found: dict[str, tuple[Steps, Steps]] = {}
    try:
        python = environment("torch", say)
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder) / "job.npz"
            write_job(job, size.image_size, size.filters, size.batch, batches=4)
            for one in how:
                say(f"training steps in {one}: fedpolyp and PyTorch in turns")
                found[one] = ours_and_theirs(job, python, one, size, say)
    except (Unavailable, Failed) as reason:
        table.append(not_measured("training steps beside PyTorch's", str(reason)))
    for one, (ours, theirs) in found.items():
        for kind, kept in (("PyTorch as it comes", False), ("PyTorch told to keep its memory", True)):
            those = [side for side in theirs if (KEPT in side[0].name) == kept]
            if those:
                table.append(_steps_row(f"training steps in {one} beside {kind}", ours, those))
    default = planned(Config(), this_machine())[0].training.precision or "float32"
    plain = [one for one in found["float32"][1] if KEPT not in one[0].name] if "float32" in found else []
    if default != "float32" and default in found and plain:
        what = f"training steps as both do them unasked ({default} beside PyTorch's float32)"
        table.append(_steps_row(what, found[default][0], plain))
    return table


Steps = list[tuple[Side, Measured]]


def ours_and_theirs(job: Path, python: Path, how: str, size: Size, say: Say) -> tuple[Steps, Steps]:
    """The sides that ran and computed the same, ours in their order and theirs from the fastest to the slowest.

    Raises:
        Unavailable: none of one's sides did.
    """
    sides = [side for spread in SPREADS for side in _sides(job, python, how, *spread, size.compile)]
    tolerance = 1e-2 if how == "mixed_bfloat16" else 1e-4
    ours, theirs, failures = [], [], []
    for side, result in zip(sides, side_by_side(sides, size.batch, size.steps, size.turns), strict=True):
        if isinstance(result, Failed):
            failures.append(str(result))
        elif side.name.startswith(OURS):
            ours.append((side, result))
        elif ours and not _same(ours[0][1], result, tolerance):
            both = [f"{one.parameters} parameters, first loss {one.losses[0]:.5f}" for one in (ours[0][1], result)]
            failures.append(f"{side.name} does not compute the same: {both[1]}, not {both[0]}")
        else:
            theirs.append((side, result))
    for failure in failures:
        say(f"left out: {failure}")
    if not ours or not theirs:
        raise Unavailable("; ".join(failures))
    return ours, sorted(theirs, key=lambda one: -one[1].speed)


def _same(own: Measured, other: Measured, tolerance: float) -> bool:
    return own.parameters == other.parameters and math.isclose(own.losses[0], other.losses[0], rel_tol=tolerance)


def _sides(job: Path, python: Path, how: str, processes: int, threads: int, compile: bool) -> list[Side]:
    """What is run for `how`, a precision or AVX2; PyTorch compiles for the whole processor only."""
    given = (str(job), "float32" if how == AVX2 else how, str(threads))
    spread = f"{processes} x {threads} thread{'s' if threads > 1 else ''}"
    plain = os.environ | (KERNELS if how == AVX2 else {}) | {"PYTHONPATH": str(ROOT)}
    kept = plain | MEMORY_KEPT | {"TORCHINDUCTOR_CACHE_DIR": str(ENVIRONMENTS / "torch" / "compiled")}
    torch = (str(python), str(HERE / "torch_steps.py"), *given)
    sides = [
        Side(f"{OURS}, {spread}", (sys.executable, str(HERE / "keras_steps.py"), *given), processes, plain),
        Side(f"eager, {spread}", (*torch, "eager"), processes, plain),
        Side(f"eager{KEPT}, {spread}", (*torch, "eager"), processes, kept),
    ]
    if compile and how != AVX2:
        sides.append(Side(f"compiled{KEPT}, {spread}", (*torch, "compiled"), processes, kept))
    return sides


def _steps_row(what: str, ours: Steps, theirs: Steps) -> dict[str, Any]:
    (side, own), (fastest, other) = ours[0], theirs[0]
    more = "".join(f"; {one.name.removeprefix(f'{OURS}, ')} {result.speed:.1f}" for one, result in ours[1:])
    rest = "".join(f"; {one.name} {result.speed:.1f}" for one, result in theirs[1:])
    return row(
        f"{what}, images a second: {side.name.removeprefix(f'{OURS}, ')} ({own.spread}{more})",
        own.speed,
        other.speed,
        1.0,
        f"PyTorch {other.version}, {fastest.name} ({other.spread}{rest})",
        at_least=True,
    )


def write_job(path: Path, image_size: int, filters: int, batch: int, batches: int) -> None:
    """Write what every program of steps starts from: batches and initial weights."""
    from scripts.benchmarks import keras_steps

    sizes = {"data.image_size": image_size, "model.base_filters": filters, "training.batch_size": batch}
    keras_steps.write_job(path, load(overrides=sizes), batches)


def nvflare_row(run: RunFolder, whole: float, rounds: int, say: Say) -> dict[str, Any]:
    """The job of `run`, which took `whole` seconds, in NVIDIA FLARE's simulator: the faster of two ways.

    Unasked it has a thread for each hospital, and so a process that stays; with fewer a new one for every task.

    Raises:
        Unavailable: it cannot be installed or does not run.
    """
    python = environment("nvflare", say)
    records, failures = run.rounds(), []
    found: list[tuple[float, int, dict[str, Any]]] = []
    for threads in (len(run.partition().hospitals), THREADS):
        say(f"NVIDIA FLARE's simulator, {rounds} rounds, {threads} threads")
        command = (str(python), str(HERE / "nvflare_job.py"), str(run.path), str(rounds), str(threads))
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        if done.returncode:
            failures.append(f"it failed ({(done.stderr.strip().splitlines() or ['without a word'])[-1]})")
            say(f"left out: {failures[-1]}")
            continue
        said = json.loads(done.stdout.splitlines()[-1])
        # The first round starts up, once; a later one stands for those that were not done.
        a_round = statistics.median(said["seconds"][1:] or said["seconds"])
        found.append((said["whole"] + a_round * (len(records) - 1 - rounds), threads, said))
    if not found:
        raise Unavailable(failures[0])
    (theirs, threads, said), *slower = sorted(found, key=lambda one: one[0])
    rest = "".join(f", {other} threads {seconds:.0f}" for seconds, other, _ in slower)
    return row(
        f"NVIDIA FLARE {said['version']}, its Keras pattern, {threads} threads: seconds of the whole job (computed "
        f"from {rounds} rounds of {', '.join(f'{one:.1f}' for one in said['seconds'])}; Dice {said['dice']:.3f} after"
        f"{rest})",
        theirs,
        whole,
        3.5,
        f"simulate; Dice {records[rounds]['dice']:.3f} after {rounds}",
        at_least=True,
    )
