import pytest

from fedpolyp.config import load
from fedpolyp.planning import Machine, planned, this_machine


def actors(machine: Machine, **overrides: object) -> int | None:
    config = load(overrides={name.replace("__", "."): value for name, value in overrides.items()})
    return planned(config, machine)[0].runtime.actors


@pytest.mark.parametrize(
    ("machine", "overrides", "expected"),
    [
        (Machine(cores=2, memory=int(24e9), gpus=0), {}, 2),
        (Machine(cores=64, memory=int(256e9), gpus=0), {}, 5),
        (Machine(cores=64, memory=int(256e9), gpus=0), {"hospitals__count": 100}, 64),
        (Machine(cores=64, memory=int(256e9), gpus=0), {"hospitals__count": 100, "federation__fraction": 0.1}, 10),
        (Machine(cores=64, memory=int(256e9), gpus=0), {"hospitals__count": 100, "training__threads": 4}, 16),
        (Machine(cores=64, memory=int(4e9), gpus=0), {}, 3),
        (Machine(cores=1, memory=int(0.1e9), gpus=0), {}, 1),
        (Machine(cores=1, memory=int(24e9), gpus=0), {"training__threads": 4}, 1),
        (Machine(cores=16, memory=int(128e9), gpus=1), {}, 2),
        (Machine(cores=16, memory=int(128e9), gpus=8), {}, 5),
    ],
)
def test_as_many_hospitals_at_a_time_as_round_cores_memory_and_gpus_allow(
    machine: Machine, overrides: dict[str, object], expected: int
) -> None:
    assert actors(machine, **overrides) == expected


def test_larger_images_take_more_memory() -> None:
    machine = Machine(cores=64, memory=int(16e9), gpus=0)
    large = actors(machine, data__image_size=256, model__base_filters=64)
    assert large is not None and large < 5 == actors(machine)


def test_a_number_that_was_given_stays_and_nothing_is_said() -> None:
    config = load(overrides={"runtime.actors": 3})
    assert planned(config, Machine(2, int(1e9), 0)) == (config, "")


def test_what_was_chosen_is_said_with_its_reason() -> None:
    said = planned(load(), Machine(cores=2, memory=int(24e9), gpus=0))[1]
    assert said == "2 hospitals at a time (2 cores, 1 thread each)"


def test_the_machine_at_hand_has_a_core_and_memory() -> None:
    machine = this_machine()
    assert machine.cores >= 1 and machine.memory > 1e8 and machine.gpus >= 0
