"""Who is away from a round of a simulation, and what becomes of the round."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.config import load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.rounds import here
from fedpolyp.rounds.absence import absent, refuse_impossible
from fedpolyp.runs import RunFolder
from tests import image_tables
from tests.tiny import Notes, carry_here, tiny_config, tiny_run


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


def test_a_run_of_which_a_round_would_have_too_few_hospitals_is_refused_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^round 1 would stop the run: 2 of its 3 hospitals are there, 3 are needed \(hospital-1: it"
    ):
        carried(
            tmp_path / "run", federation__slow="hospital-1=9", federation__deadline=2.0, federation__min_replies=1.0
        )
    assert RunFolder(tmp_path / "run").rounds() == []


def test_the_first_round_with_too_few_is_named_and_rounds_that_are_done_are_not_judged() -> None:
    partition, names = partition_of(*[10] * 5), [f"hospital-{number}" for number in range(1, 6)]
    config = load(overrides={"federation.drop_rate": 0.3, "federation.rounds": 50})
    few = [number for number in range(1, 51) if 5 - len(absent(config, partition, names, number)) < 3]
    assert len(few) > 1
    for done, first in ((0, few[0]), (few[0], few[1])):
        with pytest.raises(UsageError, match=f"^round {first} would stop the run: [012] of its 5 .* 3 are needed"):
            refuse_impossible(config, partition, done)
    refuse_impossible(config, partition, few[-1])
    enough = load(overrides={"federation.drop_rate": 0.3, "federation.rounds": few[0] - 1})
    refuse_impossible(enough, partition)


@pytest.mark.parametrize(("hospitals", "fraction"), [(6, 1.0), (12, 0.5)])
def test_fewer_hospitals_than_an_algorithm_needs_are_refused_before_the_first_round(
    hospitals: int, fraction: float
) -> None:
    settings = {"algorithm.name": "krum", "algorithm.byzantine": 2, "federation.fraction": fraction}
    partition = partition_of(*[10] * hospitals)
    with pytest.raises(UsageError, match=r"krum with these settings needs 7 hospitals in a round; there are 6 \("):
        refuse_impossible(load(overrides=settings), partition)
    refuse_impossible(load(overrides={**settings, "algorithm.byzantine": 1}), partition)


def test_nobody_is_away_from_training_without_a_federation() -> None:
    settings = {"federation.drop_rate": 0.9, "algorithm.name": "local"}
    refuse_impossible(load(overrides=settings), partition_of(10, 10))


@pytest.mark.parametrize("option", ["slow", "liars"])
def test_a_hospital_that_is_not_there_is_named(tmp_path: Path, option: str) -> None:
    value = {"slow": "nobody=3", "liars": "nobody"}[option]
    with pytest.raises(UsageError, match=f"federation.{option} names nobody; the hospitals are hospital-1, hospital-2"):
        carried(tmp_path / "run", **{f"federation__{option}": value})


PRIVATE = {"privacy.mode": "local", "algorithm.name": "fedadam", "model.normalization": "group"}


def test_patients_cannot_be_protected_where_one_is_not_known_and_the_hospital_is_named() -> None:
    partition = partition_of(5, 5)
    records = {id: replace(image_tables.record(row, row, 0.5), patient=row) for row, id in enumerate(_ids(partition))}
    config = load(overrides=PRIVATE | {"privacy.unit": "patient"})
    refuse_impossible(config, partition, records=records)
    records |= {id: replace(records[id], patient=-1) for id in ("hospital-2-0", "hospital-2-3")}
    with pytest.raises(
        UsageError,
        match=r"^--unit patient is not possible at hospital-2: the patient of 2 of 5 training images is not known; a ",
    ):
        refuse_impossible(config, partition, records=records)
    refuse_impossible(load(overrides=PRIVATE), partition, records=records)


def test_a_run_that_promises_it_for_patients_stops_before_its_first_round_where_there_are_none(tmp_path: Path) -> None:
    settings = {name.replace(".", "__"): value for name, value in PRIVATE.items()}
    config = tiny_config(**settings, privacy__unit="patient")
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(UsageError, match="--unit patient is not possible at hospital-1: the patient of 10 of 10 "):
        carry_here(run, config)
    assert run.rounds() == []


def _ids(partition: Partition) -> list[str]:
    return [id for own in partition.hospitals.values() for id in own.train]
