import pytest

from fedpolyp.config import load
from fedpolyp.planning import Machine, planned, this_machine


def actors(machine: Machine, **overrides: object) -> int | None:
    config = load(overrides={name.replace("__", "."): value for name, value in overrides.items()})
    return planned(config, machine)[0].runtime.actors


@pytest.mark.parametrize(
    ("machine", "overrides", "expected"),
    [
        (Machine(2, int(24e9), 0, False), {}, 2),
        (Machine(64, int(256e9), 0, False), {}, 5),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100}, 64),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100, "federation__fraction": 0.1}, 10),
        (Machine(64, int(256e9), 0, False), {"hospitals__count": 100, "training__threads": 4}, 16),
        (Machine(64, int(4e9), 0, False), {}, 3),
        (Machine(1, int(0.1e9), 0, False), {}, 1),
        (Machine(1, int(24e9), 0, False), {"training__threads": 4}, 1),
        (Machine(16, int(128e9), 1, False), {}, 2),
        (Machine(16, int(128e9), 8, False), {}, 5),
    ],
)
def test_as_many_hospitals_at_a_time_as_round_cores_memory_and_gpus_allow(
    machine: Machine, overrides: dict[str, object], expected: int
) -> None:
    assert actors(machine, **overrides) == expected


def test_larger_images_take_more_memory() -> None:
    machine = Machine(64, int(16e9), 0, False)
    large = actors(machine, data__image_size=256, model__base_filters=64)
    assert large is not None and large < 5 == actors(machine)


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


@pytest.mark.parametrize(
    ("arm", "expected"), [("federated", "2 hospitals at a time (2 cores, 1 thread each)"), ("pooled", "")]
)
def test_what_was_chosen_is_said_with_its_reason(arm: str, expected: str) -> None:
    config = load(overrides={"arm": arm})
    assert planned(config, Machine(2, int(24e9), 0, False))[1] == expected
    both = planned(config, Machine(2, int(24e9), 0, True))[1]
    assert (
        both.removeprefix(f"{expected}, ") == "mixed_bfloat16, faster on this processor (--precision float32 for full)"
    )


def test_the_machine_at_hand_has_a_core_and_memory() -> None:
    machine = this_machine()
    assert machine.cores >= 1 and machine.memory > 1e8 and machine.gpus >= 0
