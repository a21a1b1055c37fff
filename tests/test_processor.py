"""Which kernels TensorFlow computes with: oneDNN wherever the processor has AVX2, and as the user says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpolyp import processor
from fedpolyp.planning import this_machine
from fedpolyp.processor import bfloat16, choose_kernels, instructions, kernels, name, refuses_bfloat16

ROOT = Path(__file__).parents[1]
SWITCH = "TF_ENABLE_ONEDNN_OPTS"


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor with AVX2 alone, and no wish of the user's."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu fma avx2 rdpid\nbugs\t\t: none\n")
    monkeypatch.setattr(processor, "_CPUINFO", file)
    for variable in (SWITCH, "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(variable, "any")  # so that whatever a test leaves there goes when it ends
        monkeypatch.delenv(variable)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    return file


def test_a_processors_name_and_instructions_are_read_from_what_linux_says(cpu: Path) -> None:
    assert name() == "AMD EPYC 7763"
    assert instructions() == {"fpu", "fma", "avx2", "rdpid"}


def test_onednn_is_switched_on_where_there_is_avx2_alone(cpu: Path) -> None:
    choose_kernels()
    assert os.environ[SWITCH] == "1" and kernels() == "oneDNN avx2"


def test_nothing_is_switched_where_there_is_no_avx2_or_nothing_is_known(cpu: Path) -> None:
    cpu.write_text("flags : fpu sse4_2\n")
    choose_kernels()
    cpu.unlink()
    choose_kernels()
    assert SWITCH not in os.environ and instructions() == frozenset() and kernels().startswith("TensorFlow")


def test_the_users_own_setting_wins(cpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    choose_kernels()
    assert os.environ[SWITCH] == "0" and kernels() == "TensorFlow avx2 limited to AVX2"


def test_where_tensorflow_was_imported_before_its_default_is_what_is_told(
    cpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `flwr run`, where Flower imports it."""
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    choose_kernels()
    assert SWITCH not in os.environ and kernels() == "TensorFlow avx2"
    cpu.write_text("flags : avx2 avx512f avx512_vnni\n")
    assert kernels() == "oneDNN avx512_vnni"
    monkeypatch.setenv(SWITCH, "1")
    cpu.write_text("flags : avx2\n")
    assert kernels() == "oneDNN avx2"


@pytest.mark.skipif("avx2" not in instructions(), reason="there is nothing to switch on")
@pytest.mark.parametrize("first", ["import fedpolyp.training", "import tests.conftest, keras"])
def test_it_is_switched_before_tensorflow_is_imported(first: str) -> None:
    program = (
        "import os, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tensorflow':\n"
        f"            print(os.environ.get('{SWITCH}'))\n"
        "sys.meta_path.insert(0, Look())\n"
        f"{first}\n"
    )
    clean = {key: value for key, value in os.environ.items() if key != SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("fma avx512f avx512_bf16", "", True),
        ("fma amx_bf16", "", True),
        ("fma avx512f", "", False),
        ("fma amx_bf16", "all", True),
        ("fma amx_bf16", "AVX512_CORE_BF16", True),
        ("fma amx_bf16", "AVX2", False),
        ("fma amx_bf16", "AVX512_CORE", False),
        ("fma avx512f", "AVX512_CORE_AMX", False),
    ],
)
def test_bfloat16_is_fast_where_the_processor_has_it_and_onednn_may_use_it(
    cpu: Path, monkeypatch: pytest.MonkeyPatch, flags: str, limit: str, expected: bool
) -> None:
    cpu.write_text(f"flags : {flags}\n")
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert bfloat16() == expected


@pytest.mark.parametrize(
    ("flags", "limit", "switch", "expected"),
    [
        ("avx2 avx512f amx_bf16", "AVX2", "", True),
        ("avx2 avx512f", "avx2_vnni", "", True),
        ("avx2 avx512f amx_bf16", "AVX512_CORE", "", False),  # oneDNN has bfloat16 there, though slowly
        ("avx2 avx512f amx_bf16", "", "", False),
        ("avx2 avx512f amx_bf16", "AVX2", "0", False),  # TensorFlow's own kernels do it
        ("avx2", "AVX2", "", False),  # here, too
    ],
)
def test_bfloat16_is_refused_where_onednn_is_limited_to_less_than_the_processor_has(
    cpu: Path, monkeypatch: pytest.MonkeyPatch, flags: str, limit: str, switch: str, expected: bool
) -> None:
    cpu.write_text(f"flags : {flags}\n")
    for variable, value in (("ONEDNN_MAX_CPU_ISA", limit), (SWITCH, switch)):
        if value:
            monkeypatch.setenv(variable, value)
    assert refuses_bfloat16() == expected


def test_the_planner_sees_the_same_processor(cpu: Path) -> None:
    assert not this_machine().bfloat16
    cpu.write_text("flags : avx2 avx512_bf16\n")
    assert this_machine().bfloat16
