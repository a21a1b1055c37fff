"""How many hospitals at a time, and in which precision, on which machine."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from fedpolyp import planning
from fedpolyp.config import load
from fedpolyp.errors import UsageError
from fedpolyp.planning import Machine, actors_on_a_gpu, gpu_share, planned, this_machine, trainer_bytes


def actors(machine: Machine, **overrides: object) -> int | None:
    config = load(overrides={name.replace("__", "."): value for name, value in overrides.items()})
    return planned(config, machine)[0].runtime.actors


@pytest.mark.parametrize(
    ("machine", "overrides", "expected"),
    [
        (Machine(2, int(24e9), 0, False), {}, 2),
        (Machine(64, int(256e9), 0, False), {}, 5),
        (Machine(3, int(24e9), 0, False), {}, 3),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100}, 64),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100, "federation__fraction": 0.1}, 10),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100, "training__threads": 4}, 16),
        (Machine(64, int(4e9), 0, False), {}, 2),  # and the server
        (Machine(64, int(2.7e9), 0, False), {}, 1),
        (Machine(64, 0, 0, False), {}, 1),
        (Machine(1, int(0.1e9), 0, False), {}, 1),
        (Machine(1, int(24e9), 0, False), {"training__threads": 4}, 1),
        (Machine(16, int(128e9), 1, False), {}, 2),
        (Machine(16, int(128e9), 4, False), {}, 5),
        (Machine(3, int(128e9), 4, False), {}, 3),
        (Machine(16, int(128e9), 3, False), {"runtime__gpus_per_client": 0.7}, 3),
        (Machine(16, int(128e9), 1, False), {"runtime__gpus_per_client": 0.25}, 4),
        (Machine(16, int(128e9), 1, False), {"runtime__gpus_per_client": 0.0}, 5),
    ],
)
def test_as_many_hospitals_at_a_time_as_round_cores_memory_and_gpus_allow(
    machine: Machine, overrides: dict[str, object], expected: int
) -> None:
    assert actors(machine, **overrides) == expected


@pytest.mark.parametrize(
    ("cores", "hospitals", "expected"), [(2, 3, 3), (2, 4, 2), (4, 5, 5), (4, 6, 6), (4, 7, 4), (8, 12, 12), (1, 2, 1)]
)
def test_up_to_half_as_many_hospitals_more_than_cores_share_them(cores: int, hospitals: int, expected: int) -> None:
    machine = Machine(cores, int(64e9), 0, False)
    assert actors(machine, hospitals__count=hospitals) == expected
    assert actors(machine, hospitals__count=100, federation__fraction=hospitals / 100) == expected


def test_hospitals_share_no_cores_where_memory_is_short_or_each_has_several_threads() -> None:
    assert actors(Machine(4, int(6e9), 0, False)) == 3
    assert actors(Machine(8, int(64e9), 0, False), hospitals__count=3, training__threads=4) == 2


def test_larger_images_take_more_memory() -> None:
    machine = Machine(64, int(16e9), 0, False)
    large = actors(machine, data__image_size=256, model__base_filters=64)
    assert large is not None and large < 5 == actors(machine)


@pytest.mark.parametrize(
    ("encoder", "size", "measured"),  # resident, at its highest, with batches of 8
    [
        ("plain", 128, 1.11e9),
        ("efficientnet-lite0", 128, 1.15e9),
        ("mobilenet-v2", 128, 1.19e9),
        ("efficientnet-v2-b0", 128, 1.22e9),
        ("resnet50-v2", 128, 1.62e9),
        ("plain", 256, 1.68e9),
        ("efficientnet-lite0", 256, 1.87e9),
        ("resnet50-v2", 256, 2.56e9),
    ],
)
def test_a_trainer_is_reckoned_to_take_what_was_measured_and_somewhat_more(
    encoder: str, size: int, measured: float
) -> None:
    reckoned = trainer_bytes(load(overrides={"model.encoder": encoder, "data.image_size": size}))
    assert measured < reckoned < 2.5 * measured


def test_a_number_that_was_given_stays_and_nothing_is_said() -> None:
    config = load(overrides={"runtime.actors": 3, "training.precision": "float32"})
    assert planned(config, Machine(2, int(1e9), 0, True)) == (config, "")


@pytest.mark.parametrize(
    ("gpus", "bfloat16", "expected"),
    [(0, True, "mixed_bfloat16"), (0, False, "float32"), (1, True, "float32")],
)
def test_bfloat16_is_chosen_only_where_a_processor_with_it_does_the_work(
    gpus: int, bfloat16: bool, expected: str
) -> None:
    settled, said = planned(load(), Machine(2, int(24e9), gpus, bfloat16))
    assert settled.training.precision == expected
    assert ("mixed_bfloat16" in said) == (expected == "mixed_bfloat16")


def test_a_precision_that_was_given_stays() -> None:
    config = load(overrides={"training.precision": "float32"})
    assert planned(config, Machine(2, int(24e9), 0, True))[0].training.precision == "float32"


def test_bfloat16_is_refused_where_a_step_in_it_ends_with_an_error() -> None:
    refusing = Machine(2, int(24e9), 0, False, True)
    with pytest.raises(UsageError, match="--precision mixed_bfloat16 cannot be computed here: ONEDNN_MAX_CPU_ISA"):
        planned(load(overrides={"training.precision": "mixed_bfloat16"}), refusing)
    assert planned(load(), refusing)[0].training.precision == "float32"


def test_what_was_begun_in_one_precision_goes_on_in_it_whatever_the_machine() -> None:
    machine = Machine(2, int(24e9), 0, True)
    full, half = (load(overrides={"training.precision": one}) for one in ("float32", "mixed_bfloat16"))
    unset = load()
    for begun in (unset, full, half):
        settled, said = planned(unset, machine, begun)
        assert settled.training == begun.training and settled.runtime.actors == 2 and "bfloat16" not in said
    assert planned(half, machine, full)[0].training == half.training
    cluster = load(overrides={"runtime.ray_address": "auto"})
    assert planned(cluster, machine, half)[0].training == half.training


def test_nothing_is_settled_for_the_machines_of_a_cluster() -> None:
    config = load(overrides={"runtime.ray_address": "auto"})
    assert planned(config, Machine(2, int(24e9), 0, True)) == (config, "")


def test_all_actors_find_a_place_on_the_gpus_though_a_share_lies_on_one() -> None:
    for gpus in range(1, 9):
        for actors in range(1, 65):
            share = gpu_share(actors, gpus)
            in_rays_units = round(share * 10_000)
            assert abs(share * 10_000 - in_rays_units) < 1e-9 and 0 < share <= 1
            assert gpus * (10_000 // in_rays_units) >= actors
            assert actors_on_a_gpu(share) == 10_000 // in_rays_units
    assert gpu_share(3, 0) == 0


@pytest.mark.parametrize(
    ("machine", "overrides", "reason"),
    [
        (Machine(64, int(256e9), 0, False), {}, "5 hospitals in a round"),
        (Machine(64, int(256e9), 0, False), {"hospitals.count": 1}, "1 hospital in a round"),
        (Machine(8, int(256e9), 0, False), {"training.threads": 4}, "8 cores, 4 threads each"),
        (Machine(4, int(256e9), 0, False), {}, "all of a round, sharing 4 cores"),
        (Machine(64, int(4e9), 0, False), {}, "4.0 GB free, 1.3 each and the server"),
        (Machine(64, 0, 0, False), {}, "0.0 GB free, 1.3 each and the server"),
        (Machine(64, int(256e9), 1, False), {}, "1 GPU, 2 on each"),
    ],
)
def test_the_reason_names_what_there_is_and_what_each_takes(
    machine: Machine, overrides: dict[str, object], reason: str
) -> None:
    config = load(overrides=overrides)
    settled, said = planned(config, machine)
    assert said.endswith(f"at a time ({reason})") and said.startswith(f"{settled.runtime.actors} hospital")


@pytest.mark.parametrize(
    ("algorithm", "expected"), [("fedavg", "2 hospitals at a time (2 cores, 1 thread each)"), ("pooled", "")]
)
def test_what_was_chosen_is_said_with_its_reason(algorithm: str, expected: str) -> None:
    config = load(overrides={"algorithm.name": algorithm})
    assert planned(config, Machine(2, int(24e9), 0, False))[1] == expected
    both = planned(config, Machine(2, int(24e9), 0, True))[1]
    assert (
        both.removeprefix(f"{expected}, ")
        == "mixed_bfloat16, faster on this processor (--precision float32 for full precision)"
    )


def test_the_machine_at_hand_has_a_core_and_memory() -> None:
    machine = this_machine()
    assert machine.cores >= 1 and machine.memory > 1e8 and machine.gpus >= 0


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The system's files that tell of the machine: one with 8 cores, 20 GiB free and no limits, to be changed."""
    files = {"/proc/meminfo": "MemTotal:  25165824 kB\nMemAvailable:   20971520 kB\n"}
    monkeypatch.setattr(planning, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(planning, "bfloat16", lambda: False)
    monkeypatch.setattr(planning, "_DEVICES", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return files


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("900000 100000", 8), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_containers_share_of_the_cores_counts_in_whole_ones_and_is_one_at_least(
    system: dict[str, str], quota: str, cores: int
) -> None:
    system["/sys/fs/cgroup/cpu.max"] = quota
    assert this_machine().cores == cores


def test_a_container_without_a_limit_has_the_cores_and_the_memory_of_the_machine(system: dict[str, str]) -> None:
    system["/sys/fs/cgroup/memory.max"] = "max\n"
    machine = this_machine()
    assert (machine.cores, machine.memory, machine.gpus) == (8, 20 * 2**30, 0)


@pytest.mark.parametrize(
    ("current", "inactive_files", "free"), [(3, 0, 5), (7, 4, 5), (8, 0, 0), (9, 0, 0), (0, 0, 8)], ids=str
)
def test_a_containers_memory_is_its_limit_less_what_is_in_use_and_cached_files_are_not_in_use(
    system: dict[str, str], current: int, inactive_files: int, free: int
) -> None:
    system |= {
        "/sys/fs/cgroup/memory.max": "8000000000\n",
        "/sys/fs/cgroup/memory.current": f"{current}000000000\n",
        "/sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {inactive_files}000000000\nactive_file 7\n",
    }
    assert this_machine().memory == free * 1e9


def test_a_container_may_use_no_more_memory_than_the_machine_has(system: dict[str, str]) -> None:
    system |= {"/sys/fs/cgroup/memory.max": "64000000000\n", "/sys/fs/cgroup/memory.current": "0\n"}
    assert this_machine().memory == 20 * 2**30


@pytest.mark.parametrize(
    ("cuda", "visible", "expected"),
    [
        (True, None, 2),
        (True, "1", 1),
        (True, "0,1", 2),
        (True, "0,1,2,3", 2),
        (True, "", 0),
        (True, "-1", 0),
        (False, None, 0),
        (False, "0", 0),
    ],
)
def test_a_gpu_counts_where_it_is_visible_and_cuda_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: bool, visible: str | None, expected: int
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(planning, "_DEVICES", tmp_path)
    monkeypatch.setattr(planning, "_has_cuda", lambda: cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == expected


def test_cuda_is_found_where_tensorflow_finds_it_beside_itself_or_in_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system: list[str] = []
    monkeypatch.setattr(planning, "find_library", lambda name: name if name in system else None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    assert not planning._has_cuda()
    system.append("cudnn")
    assert planning._has_cuda()
    system.clear()
    (tmp_path / "nvidia" / "cudnn").mkdir(parents=True)
    importlib.invalidate_caches()
    assert planning._has_cuda()
    sys.modules.pop("nvidia", None)


def test_tracking_is_refused_before_anything_begins_where_the_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load(overrides={"runtime.track": "mlflow"})
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else found(name))
    with pytest.raises(UsageError, match="^--track mlflow needs the package mlflow-skinny: pip install"):
        planned(config, Machine(2, int(8e9), 0, False))
