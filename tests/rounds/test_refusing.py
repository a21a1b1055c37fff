"""What could not be carried to its last round is refused before it begins, with what is to be changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedpolyp.config import load
from fedpolyp.data.partition.partition import Partition
from fedpolyp.errors import UsageError
from fedpolyp.rounds.absence import absent
from fedpolyp.rounds.refusing import refuse_impossible
from fedpolyp.runs import RunFolder
from tests import image_tables
from tests.rounds.test_absence import carried, partition_of
from tests.tiny import carry_here, tiny_config, tiny_run


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
