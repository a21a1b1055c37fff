"""Chooses how many hospitals train at a time on this machine, and the precision, where the config leaves them open."""

import importlib.util
import os
import re
from contextlib import suppress
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.config import Config
from fedpolyp.errors import UsageError, to_install
from fedpolyp.model.registry import MODELS
from fedpolyp.own_code import ADVICE
from fedpolyp.processor import bfloat16, refuses_bfloat16

# Resident memory of an actor: 1.3 GB for 128 px, 16 filters and batches of 8, of which TensorFlow alone takes 0.7.
_TENSORFLOW_BYTES = 0.7e9
_BYTES_PER_PIXEL = 0.6e9 / (128 * 128 * 8)
_HOSPITALS_ON_A_CORE = 1.5  # with more, starting another actor takes longer than a short run gains from it
_ACTORS_PER_GPU = 2  # one computes while the other reads and writes weights; not measured
_UNITS = 10_000  # Ray counts the shares of a GPU in these
_DEVICES = Path("/dev")
NO_MLFLOW = f"--track mlflow needs the package mlflow-skinny: {to_install('mlflow')}"


@dataclass(frozen=True)
class Machine:
    """What this process may use of a machine."""

    cores: int
    memory: int  # free bytes
    gpus: int  # that TensorFlow can use
    bfloat16: bool  # whether the processor supports it, and so computes faster in it than in float32
    refuses_bfloat16: bool = False  # whether a step in it ends with an error


def this_machine() -> Machine:
    """The machine at hand, within the limits of a container."""
    quota = re.match(r"(\d+) (\d+)", _read("/sys/fs/cgroup/cpu.max"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota:
        cores = max(1, min(cores, int(quota[1]) // int(quota[2])))
    available = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    memory = int(available[1]) * 1024 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    granted = _read("/sys/fs/cgroup/memory.max").strip()
    if granted.isdigit():
        used = int(_read("/sys/fs/cgroup/memory.current").strip() or 0)
        # Recently used files count as used memory, but are dropped when the memory is needed.
        files = re.search(r"^inactive_file (\d+)$", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
        memory = max(0, min(memory, int(granted) - used + int(files[1] if files else 0)))
    return Machine(cores, memory, _gpus(), bfloat16(), refuses_bfloat16())


def _gpus() -> int:
    """How many GPUs TensorFlow can use, found without loading TensorFlow, which takes seconds."""
    built_in = sum(path.name[6:].isdigit() for path in _DEVICES.glob("nvidia*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        built_in = min(built_in, sum(one.strip() not in ("", "-1") for one in visible.split(",")))
    return built_in if built_in and _has_cuda() else 0


def _has_cuda() -> bool:
    """Whether TensorFlow will find cuDNN, from `tensorflow[and-cuda]` or the system; without it there is no GPU."""
    with suppress(ModuleNotFoundError):  # raised if there is no package 'nvidia' at all
        if importlib.util.find_spec("nvidia.cudnn") is not None:
            return True
    return find_library("cudnn") is not None


def planned(config: Config, machine: Machine, begun: Config | None = None) -> tuple[Config, str]:
    """`config` with its number of actors and its precision chosen, and one line that says what was chosen, and why.

    The line is '' if nothing was left open. For a Ray cluster, which has other machines, nothing is chosen. A run or
    comparison that was `begun` in one precision keeps it on any machine, because it decides the bits.

    Raises:
        UsageError: the config asks for a GPU, or for bfloat16, and this machine cannot compute so, or for MLflow or an
            observer of the user's own, and it is not installed.
    """
    if begun is not None and config.training.precision is None:
        config = _in_precision(config, begun.training.precision)
    if config.runtime.track == "mlflow" and importlib.util.find_spec("mlflow") is None:
        raise UsageError(NO_MLFLOW)
    for place in config.runtime.own_observers:
        if importlib.util.find_spec(place.partition(":")[0].partition(".")[0]) is None:
            raise UsageError(f"the observer {place} cannot be loaded: there is no such module{ADVICE}")
    if config.runtime.ray_address is not None:
        return config, ""
    if config.runtime.gpus_per_client and not machine.gpus:
        raise UsageError(
            f"--gpus-per-client {config.runtime.gpus_per_client:g} needs a GPU that TensorFlow can use, and this "
            "machine has none; leave it out to train on the processor"
        )
    said = []
    if config.runtime.actors is None:
        actors, reason = _actors(config, machine)
        config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"actors": actors})})
        if config.federated:
            said.append(f"{actors} hospital{'s' if actors > 1 else ''} at a time ({reason})")
    if config.training.precision is None and begun is None:
        precision = "mixed_bfloat16" if machine.bfloat16 and not machine.gpus else "float32"
        config = _in_precision(config, precision)
        if precision != "float32":
            said.append(f"{precision}, faster on this processor (--precision float32 for full precision)")
    if config.training.precision == "mixed_bfloat16" and machine.refuses_bfloat16 and not machine.gpus:
        raise UsageError(
            "--precision mixed_bfloat16 cannot be computed here: ONEDNN_MAX_CPU_ISA limits oneDNN to less than AVX512; "
            "leave this variable out, or use --precision float32"
        )
    return config, ", ".join(said)


def _in_precision(config: Config, precision: str | None) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def seats(config: Config) -> int:
    """How many hospitals train in a round."""
    return config.federation.in_a_round(config.hospitals.count)


def gpu_share(actors: int, gpus: int) -> float:
    """The share of a GPU for each of `actors` with which all of them fit; 0.0 without a GPU.

    Ray takes a share from one GPU: of three GPUs, shares of three fifths are enough for three actors, not for five.
    """
    return _UNITS // -(-actors // gpus) / _UNITS if gpus else 0.0


def actors_on_a_gpu(share: float) -> int:
    """How many actors with such a share fit on one GPU."""
    return _UNITS // max(1, round(share * _UNITS))


def trainer_bytes(config: Config) -> float:
    """The approximate memory of a process that trains by `config`."""
    memory = MODELS[config.model.encoder].memory
    pixels = config.data.image_size**2 * config.training.batch_size
    share = memory.activations(config.model.base_filters)
    return _TENSORFLOW_BYTES + memory.weights + _BYTES_PER_PIXEL * share * pixels


def _actors(config: Config, machine: Machine) -> tuple[int, str]:
    """As many as there are hospitals in a round and as cores (at `training.threads` each), memory and GPUs allow.

    If there are slightly more hospitals than cores, all train at the same time and share the cores. In turns, the few
    hospitals of the second turn would leave the other cores idle for half of the round.
    """
    cores, threads, share = machine.cores, config.training.threads, config.runtime.gpus_per_client
    each, wanted = trainer_bytes(config), seats(config)
    if threads == 1 and cores < wanted <= _HOSPITALS_ON_A_CORE * cores:
        limits = [(wanted, f"all of a round, sharing {_count(cores, 'core')}")]
    else:
        limits = [
            (wanted, f"{_count(wanted, 'hospital')} in a round"),
            (cores // threads, f"{_count(cores, 'core')}, {_count(threads, 'thread')} each"),
        ]
    # The server, which scores the model, needs as much as an actor.
    held = int(machine.memory // each) - 1
    limits.append((held, f"{machine.memory / 1e9:.1f} GB free, {each / 1e9:.1f} each and the server"))
    if machine.gpus and share != 0:
        on_one = _ACTORS_PER_GPU if share is None else actors_on_a_gpu(share)
        limits.append((machine.gpus * on_one, f"{_count(machine.gpus, 'GPU')}, {on_one} on each"))
    most, reason = min(limits, key=lambda limit: limit[0])
    return max(1, most), reason


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
