"""How many hospitals to train at a time on this machine, and in which precision, where the config leaves that open."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from fedpolyp.config import Config

# Resident memory of an actor: 1.3 GB for 128 px, 16 filters and batches of 8, of which TensorFlow alone takes 0.7.
_TENSORFLOW_BYTES = 0.7e9
_BYTES_PER_ACTIVATION = 0.6e9 / (128 * 128 * 16 * 8)
_ACTORS_PER_GPU = 2  # one computes while the other reads and writes weights; not measured


@dataclass(frozen=True)
class Machine:
    """What this process may use of a machine."""

    cores: int
    memory: int  # bytes that are free
    gpus: int
    bfloat16: bool  # whether the processor computes in it, which is then faster than float32


def this_machine() -> Machine:
    """The machine at hand; what a container grants of it counts, not what is built in."""
    quota = re.match(r"(\d+) (\d+)", _read("/sys/fs/cgroup/cpu.max"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota:
        cores = max(1, min(cores, int(quota[1]) // int(quota[2])))
    available = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    memory = int(available[1]) * 1024 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    granted = _read("/sys/fs/cgroup/memory.max").strip()
    if granted.isdigit():
        used = _read("/sys/fs/cgroup/memory.current").strip()
        memory = min(memory, int(granted) - int(used or 0))
    gpus = [path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()]
    instructions = set(_read("/proc/cpuinfo").split())
    return Machine(cores, memory, len(gpus), bool(instructions & {"avx512_bf16", "amx_bf16"}))


def planned(config: Config, machine: Machine, begun: Config | None = None) -> tuple[Config, str]:
    """`config` with its number of actors and its precision settled, and one line that says what was chosen, and why.

    The line is '' when nothing was left open. A Ray cluster has other machines: nothing is settled for it. What goes
    on with a run, or a comparison, that was `begun` in one precision keeps to it on any machine: it decides the bits.
    """
    if begun is not None and config.training.precision is None:
        config = _in_precision(config, begun.training.precision)
    if config.runtime.ray_address is not None:
        return config, ""
    said = []
    if config.runtime.actors is None:
        actors, reason = _actors(config, machine)
        config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"actors": actors})})
        if config.arm == "federated":
            said.append(f"{actors} hospital{'s' if actors > 1 else ''} at a time ({reason})")
    if config.training.precision is None and begun is None:
        precision = "mixed_bfloat16" if machine.bfloat16 and not machine.gpus else "float32"
        config = _in_precision(config, precision)
        if precision != "float32":
            said.append(f"{precision}, faster on this processor (--precision float32 for full)")
    return config, ", ".join(said)


def _in_precision(config: Config, precision: str | None) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def _actors(config: Config, machine: Machine) -> tuple[int, str]:
    """As many as there are hospitals in a round and as cores (at `training.threads` each) and memory allow.

    Two to a GPU where there is one.
    """
    training = config.training
    batch = config.data.image_size**2 * config.model.base_filters * training.batch_size
    each = _TENSORFLOW_BYTES + _BYTES_PER_ACTIVATION * batch
    limits = {
        "hospitals in a round": max(1, round(config.federation.fraction * config.hospitals.count)),
        f"cores, {training.threads} thread{'s' if training.threads > 1 else ''} each": machine.cores
        // training.threads,
        f"times {each / 1e9:.1f} GB of memory": int(machine.memory // each),
    }
    if machine.gpus:
        limits = {"hospitals in a round": limits["hospitals in a round"], "GPUs, two each": 2 * machine.gpus}
    reason, most = min(limits.items(), key=lambda limit: limit[1])
    return max(1, most), f"{most} {reason}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
