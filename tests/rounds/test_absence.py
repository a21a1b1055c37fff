"""Who is away from a round of a simulation, and what becomes of the round."""

from pathlib import Path
from typing import Any

from fedpolyp.config import load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.rounds import here
from fedpolyp.rounds.absence import absent
from fedpolyp.runs import RunFolder
from tests.tiny import Notes, tiny_config, tiny_run


def partition_of(*sizes: int) -> Partition:
    names = [f"hospital-{number}" for number in range(1, len(sizes) + 1)]
    return Partition(
        (),
        {
            name: HospitalImages(tuple(f"{name}-{image}" for image in range(size)), (), ())
            for name, size in zip(names, sizes, strict=True)
        },
    )


def away(partition: Partition, number: int = 1, **settings: Any) -> dict[str, str]:
    config = load(overrides={f"federation.{name}": value for name, value in settings.items()})
    return absent(config, partition, sorted(partition.hospitals), number)


def test_nobody_is_away_unless_asked_for() -> None:
    assert away(partition_of(10, 10, 10)) == {}


def test_who_drops_out_is_drawn_from_the_seed_and_the_round() -> None:
    partition = partition_of(*[10] * 200)
    first, second = away(partition, 1, drop_rate=0.3), away(partition, 2, drop_rate=0.3)
    assert first == away(partition, 1, drop_rate=0.3)
    assert first.keys() != second.keys()
    assert 30 < len(first) < 90
    assert set(first.values()) == {"it dropped out (simulated)"}


def test_a_slow_hospital_is_too_late_for_the_deadline_and_another_is_not() -> None:
    late = away(partition_of(80, 80, 80), slow="hospital-2=3,hospital-3=1.5", deadline=2.0)
    assert late == {"hospital-2": "it takes 3 times the median, over the deadline of 2 (simulated)"}


def test_a_large_hospital_takes_its_time_unless_steps_are_equal() -> None:
    partition = partition_of(80, 80, 800)
    assert away(partition, deadline=2.0).keys() == {"hospital-3"}
    config = load(overrides={"federation.deadline": 2.0, "training.local_steps": 10})
    assert absent(config, partition, sorted(partition.hospitals), 1) == {}


def carried(folder: Path, **options: Any) -> tuple[RunFolder, Notes]:
    config = tiny_config(federation__rounds=2, training__local_epochs=1, **options)
    run, store, notes = tiny_run(folder, config), open_source(config.data, config.data_seed), Notes()
    here.run(config, run, store, run.partition(), notes)
    return run, notes


def test_who_is_away_is_recorded_and_the_round_goes_on_without(tmp_path: Path) -> None:
    run, _ = carried(tmp_path / "run", federation__slow="hospital-1=9", federation__deadline=2.0)
    for record in run.rounds()[1:]:
        assert [refusal["hospital"] for refusal in record["refused"]] == ["hospital-1"]
        trained = {name for name, own in record["hospitals"].items() if "train_loss" in own}
        assert trained == {"hospital-2", "hospital-3"}
        assert "val_dice" in record["hospitals"]["hospital-1"]  # it is late, not gone
