"""The abilities of this machine's processor, and the kernels with which TensorFlow will compute on it."""

import os
import platform
import sys
from pathlib import Path

# In the order of oneDNN's preference; with none of them it is no faster than TensorFlow's own kernels.
_LEVELS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2")
# TensorFlow's default is oneDNN where a processor has one of these.
_BY_DEFAULT = frozenset(("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"))
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"
_LIMIT = "ONEDNN_MAX_CPU_ISA"
_BELOW_AVX512 = frozenset(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"))
_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16"))


def instructions() -> frozenset[str]:
    """The instruction sets of the processor, as Linux calls them; empty if they are unknown."""
    return frozenset(_said("flags").split())


def bfloat16() -> bool:
    """Whether bfloat16 is fast here: oneDNN refuses it below the instructions that it is limited to."""
    limit = os.environ.get(_LIMIT, "ALL").upper()
    return bool(_BFLOAT16 & instructions()) and (limit in ("ALL", "DEFAULT") or limit.endswith(("BF16", "AMX", "FP16")))


def refuses_bfloat16() -> bool:
    """Whether every step in bfloat16 ends with an error here.

    TensorFlow leaves bfloat16 to oneDNN where the processor has AVX512; oneDNN refuses it where it is limited to less.
    """
    limit = os.environ.get(_LIMIT, "ALL").upper()
    return kernels().startswith("oneDNN") and "avx512f" in instructions() and limit in _BELOW_AVX512


def name() -> str:
    """The processor's name."""
    return _said("model name") or platform.processor()


def choose_kernels() -> None:
    """Let TensorFlow compute with oneDNN if the processor has AVX2, unless the user has set something else.

    TensorFlow's default needs AVX512-VNNI, AVX-VNNI or AMX; with AVX2 alone a training step without oneDNN takes 1.6
    times as long. TensorFlow reads this when it is imported: where it was imported before, it keeps its default.
    """
    if "avx2" in instructions() and "tensorflow" not in sys.modules:
        os.environ.setdefault(_SWITCH, "1")


def kernels() -> str:
    """What decides the bits of a computation here, besides versions and threads: 'oneDNN avx2', 'TensorFlow avx2'."""
    known = instructions()
    level = next((level for level in _LEVELS if level in known), platform.machine())
    # Where nothing is set, TensorFlow was imported with its default, or will be after `choose_kernels`.
    unset = bool(_BY_DEFAULT & known) if "tensorflow" in sys.modules else "avx2" in known
    library = "oneDNN" if os.environ.get(_SWITCH, str(int(unset))) == "1" else "TensorFlow"
    limit = os.environ.get(_LIMIT)
    return f"{library} {level}" + (f" limited to {limit}" if limit else "")


def _said(key: str) -> str:
    try:
        with _CPUINFO.open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
    except OSError:
        return ""
