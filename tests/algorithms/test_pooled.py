"""Pooled training: everybody's images in one place, through the same rounds as a federation."""

from pathlib import Path

import pytest

from fedpolyp.data.source import open_source
from fedpolyp.hospital.in_simulation import images_of
from fedpolyp.training import learning_rate, shared_trainer
from tests.algorithms.unfederated import StopIn, carry, rows, trained
from tests.same_bits import equal
from tests.tiny import Whole, federate, final, tiny_config, tiny_run


def test_a_resumed_run_ends_in_the_bits_of_one_never_interrupted(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config(algorithm__name="pooled")
    unbroken = whole(config)
    for stop in (StopIn(1), StopIn(2, "pooled")):
        broken, _ = trained(tmp_path / f"broken-{stop.where[0]}", "pooled", stop)
        expected, found = final(unbroken, config).state, final(broken, config).state
        assert expected.keys() == found.keys() == {"model", "optimizer"}
        assert all(equal(expected[group], found[group]) for group in expected)
        assert unbroken.images_file.read_bytes() == broken.images_file.read_bytes()
        assert [record["round"] for record in broken.rounds()] == [0, 1, 2, 3]


@pytest.mark.parametrize("algorithm", ["fedavg", "pooled"])
def test_a_finished_run_taken_further_ends_in_the_bits_of_one_that_had_all_rounds_from_the_start(
    tmp_path: Path, algorithm: str
) -> None:
    found = []
    for name, first in (("whole", 2), ("further", 1)):
        config = tiny_config(algorithm__name=algorithm, training__schedule="constant", federation__rounds=first)
        run = tiny_run(tmp_path / name, config)
        for rounds in sorted({first, 2}):
            longer = config.federation.model_copy(update={"rounds": rounds})
            config = config.model_copy(update={"federation": longer})
            run.change(config, open_source(config.data, config.seed).path)
            (carry if algorithm == "pooled" else federate)(run, config)
        found.append((final(run, config).state, run.images_file.read_bytes(), len(run.rounds())))
    assert all(equal(found[0][0][group], found[1][0][group]) for group in ("model", "optimizer"))
    assert found[0][1:] == found[1][1:]


def test_pooled_sees_every_hospitals_training_images_once_a_round_and_no_others(tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", "pooled", training__local_epochs=2, federation__rounds=2)
    images = sum(len(hospital.train) for hospital in run.partition().hospitals.values())
    assert [record["hospitals"]["pooled"]["images"] for record in run.rounds()[1:]] == [images] * 2
    # two local epochs in batches of four
    assert [record["steps"] for record in run.rounds()] == [0, *[2 * -(-images // 4)] * 2]
    every = images_of(run.partition(), "pooled")
    assert sorted(every.train) == sorted(id for own in run.partition().hospitals.values() for id in own.train)
    assert (every.val, every.test) == ((), ())


def test_a_pooled_model_is_all_images_trained_in_one_place(whole: Whole) -> None:
    config = tiny_config(algorithm__name="pooled")
    run = whole(config)
    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    positions = store.positions(images_of(run.partition(), "pooled").train)
    arrays, optimizer = trainer.initial, trainer.start.optimizer
    for number in (1, 2, 3):
        done = trainer.train(
            arrays,
            store.images[positions],
            store.masks[positions],
            hospital="pooled",
            round=number,
            learning_rate=learning_rate(config, number),
            optimizer=optimizer,
        )
        arrays, optimizer = done.arrays, done.optimizer
    state = final(run, config).state
    assert equal(state["model"], arrays) and equal(state["optimizer"], optimizer)


def test_the_arm_starts_where_the_federation_of_the_same_seed_starts(whole: Whole) -> None:
    starts_with_the_federation(whole, "pooled")


def starts_with_the_federation(whole: Whole, algorithm: str) -> None:
    run, federated = whole(tiny_config(algorithm__name=algorithm)), whole(tiny_config())
    first, other = run.rounds()[0], federated.rounds()[0]
    for name in ("dice", "iou", "loss", "val_dice"):
        assert first[name] == pytest.approx(other[name], rel=1e-12)
    ours, theirs = ({(row["set"], row["id"]) for row in rows(made)} for made in (run, federated))
    assert ours == theirs


@pytest.mark.parametrize("algorithm", ["pooled", "local", "fedavg"])
def test_without_validation_images_the_last_model_is_the_best(tmp_path: Path, algorithm: str) -> None:
    config = tiny_config(algorithm__name=algorithm, hospitals__val=0.0, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    (federate if algorithm == "fedavg" else carry)(run, config)
    assert run.rounds()[-1]["val_dice"] is None
    assert {row["round"] for row in rows(run)} == {"1"}


def test_a_federated_run_without_flower_and_ray_has_the_bits_of_one_with_them(tmp_path: Path, whole: Whole) -> None:
    config = tiny_config()
    with_flower, without = tiny_run(tmp_path / "with", config), whole(config)
    federate(with_flower, config)
    one, other = final(with_flower, config).state, final(without, config).state
    assert all(equal(one[group], other[group]) for group in ("model", "optimizer"))
    assert with_flower.images_file.read_bytes() == without.images_file.read_bytes()
