import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedpolyp.experiment.unfederated import learners

from fedpolyp import checkpoints
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment import unfederated
from fedpolyp.model.arrays import Arrays, equal
from fedpolyp.runs import RunFolder
from fedpolyp.training import Trained, learning_rate, shared_trainer
from fedpolyp.watcher import Watcher
from tests.tiny import federate, final, tiny_config, tiny_run


class StopIn(Watcher):
    """Breaks into a run at a hospital's training, or after a round."""

    def __init__(self, round: int, hospital: str | None = None) -> None:
        self.where = (round, hospital)

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        if (round, hospital) == self.where:
            raise KeyboardInterrupt

    def finished_round(self, record: dict) -> None:  # type: ignore[type-arg]
        if (record["round"], None) == self.where:
            raise KeyboardInterrupt


def train(folder: Path, arm: str, stop: Watcher | None = None) -> tuple[RunFolder, Config]:
    config = tiny_config(arm=arm)
    run = tiny_run(folder, config)
    store = open_source(config.data, config.seed)
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            unfederated.run(config, run, store, run.partition(), stop)
    unfederated.run(config, run, store, run.partition(), Watcher())
    return run, config


def last_weights(run: RunFolder, config: Config) -> dict[str, Arrays]:
    return {
        learner.name: checkpoints.load(learner.checkpoints, 3, run.fingerprint()).arrays
        for learner in learners(config, run, run.partition())
    }


def rows(run: RunFolder) -> list[dict[str, str]]:
    with run.images_file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("arm", "stop"),
    [
        ("pooled", StopIn(1)),
        ("local", StopIn(0)),
        ("local", StopIn(2)),
        ("local", StopIn(2, "hospital-2")),
    ],
)
def test_a_resumed_run_ends_in_the_bits_of_one_never_interrupted(tmp_path: Path, arm: str, stop: Watcher) -> None:
    whole, config = train(tmp_path / "whole", arm)
    broken, _ = train(tmp_path / "broken", arm, stop)
    expected, found = last_weights(whole, config), last_weights(broken, config)
    assert all(equal(expected[name], found[name]) for name in expected)
    assert whole.images_file.read_bytes() == broken.images_file.read_bytes()
    assert [record["round"] for record in broken.rounds()] == [0, 1, 2, 3]


@pytest.mark.parametrize("arm", ["federated", "pooled"])
def test_a_finished_run_taken_further_ends_in_the_bits_of_one_that_had_all_rounds_from_the_start(
    tmp_path: Path, arm: str
) -> None:
    found = []
    for name, first in (("whole", 3), ("further", 2)):
        config = tiny_config(arm=arm, training__schedule="constant", federation__rounds=first)
        run = tiny_run(tmp_path / name, config)
        store = open_source(config.data, config.seed)
        for rounds in sorted({first, 3}):
            longer = config.federation.model_copy(update={"rounds": rounds})
            config = config.model_copy(update={"federation": longer})
            run.change(config, store.path)
            if arm == "federated":
                federate(run, config)
            else:
                unfederated.run(config, run, store, run.partition(), Watcher())
        found.append((final(run, config).arrays, run.images_file.read_bytes(), len(run.rounds())))
    assert equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


def test_hospitals_whose_checkpoints_are_a_round_apart_go_on_to_the_same_bits(tmp_path: Path) -> None:
    config = tiny_config(arm="local", runtime__keep_checkpoints=1)
    whole, _ = train(tmp_path / "whole", "local")
    run = tiny_run(tmp_path / "broken", config)
    store = open_source(config.data, config.seed)
    saved = 0

    def die(folder: Path, checkpoint: checkpoints.Checkpoint, keep: int) -> None:
        nonlocal saved
        saved += 1
        if saved == 3 * 3 + 2:  # the second of three hospitals in round 3
            raise KeyboardInterrupt
        save(folder, checkpoint, keep)

    save = checkpoints.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", die)
        with pytest.raises(KeyboardInterrupt):
            unfederated.run(config, run, store, run.partition(), Watcher())
    unfederated.run(config, run, store, run.partition(), Watcher())
    expected, found = last_weights(whole, config), last_weights(run, config)
    assert all(equal(expected[name], found[name]) for name in expected)


def test_pooled_sees_every_hospitals_training_images_once_a_round_and_no_others(tmp_path: Path) -> None:
    run, config = train(tmp_path / "run", "pooled")
    images = sum(len(hospital.train) for hospital in run.partition().hospitals.values())
    assert [record["hospitals"]["pooled"]["images"] for record in run.rounds()[1:]] == [images] * 3
    # two local epochs in batches of four
    assert [record["steps"] for record in run.rounds()] == [0, *[2 * -(-images // 4)] * 3]
    (learner,) = learners(config, run, run.partition())
    assert sorted(learner.train) == sorted(id for own in run.partition().hospitals.values() for id in own.train)


def test_a_local_model_is_its_own_hospitals_images_trained_alone(tmp_path: Path) -> None:
    run, config = train(tmp_path / "run", "local")
    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    positions = store.positions(run.partition().hospitals["hospital-2"].train)
    arrays, optimizer = trainer.initial, trainer.fresh_optimizer
    for number in (1, 2, 3):
        trained = trainer.train(
            arrays,
            store.images[positions],
            store.masks[positions],
            hospital="hospital-2",
            round=number,
            learning_rate=learning_rate(config, number),
            optimizer=optimizer,
        )
        arrays, optimizer = trained.arrays, trained.optimizer
    assert equal(last_weights(run, config)["hospital-2"], arrays)


@pytest.mark.parametrize("arm", ["pooled", "local"])
def test_an_arm_starts_where_the_federation_of_the_same_seed_starts(tmp_path: Path, arm: str) -> None:
    run, _ = train(tmp_path / arm, arm)
    federated_config = tiny_config()
    federated = tiny_run(tmp_path / "federated", federated_config)
    federate(federated, federated_config)
    first, other = run.rounds()[0], federated.rounds()[0]
    for name in ("dice", "iou", "loss", "val_dice"):
        assert first[name] == pytest.approx(other[name], rel=1e-12)
    ours, theirs = ({(row["set"], row["id"]) for row in rows(folder)} for folder in (run, federated))
    assert ours == theirs


def test_every_local_model_is_scored_on_every_hospitals_test_images(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", "local")
    partition = run.partition()
    sets = {"heldout": partition.heldout} | {f"test:{name}": own.test for name, own in partition.hospitals.items()}
    expected = [
        (f"{kind}:{trained_at}", set, id)
        for trained_at in partition.hospitals
        for kind in ("last", "best")
        for set, ids in sets.items()
        for id in ids
    ]
    assert sorted((row["model"], row["set"], row["id"]) for row in rows(run)) == sorted(expected)
    assert {row["arm"] for row in rows(run)} == {"local"}


def test_the_local_arms_headline_is_the_mean_over_the_hospitals_models(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", "local")
    held_out = [row for row in rows(run) if row["set"] == "heldout" and row["model"].startswith("last:")]
    counts = np.array([[int(row[name]) for name in ("tp", "fp", "fn")] for row in held_out])
    dice = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts]
    assert run.rounds()[-1]["dice"] == pytest.approx(np.mean(dice))
    assert set(run.rounds()[-1]["hospitals"]) == set(run.partition().hospitals)


def test_the_masks_left_behind_are_those_that_were_scored(tmp_path: Path) -> None:
    run, config = train(tmp_path / "run", "local")
    store = open_source(config.data, config.seed)
    truth = store.masks[store.positions(run.partition().heldout)]
    for name, masks in run.predictions().items():
        scored = [int(row["tp"]) for row in rows(run) if (row["model"], row["set"]) == (name, "heldout")]
        assert (masks & truth).sum(axis=(1, 2)).tolist() == scored
    assert list(run.predictions()) == ["last:hospital-1", "last:hospital-2", "last:hospital-3"]


def test_a_federated_run_leaves_its_masks_too(tmp_path: Path) -> None:
    config = tiny_config()
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    store = open_source(config.data, config.seed)
    positions = store.positions(run.partition().heldout)
    expected = shared_trainer(config).predict(final(run, config).arrays, store.images[positions])
    assert np.array_equal(run.predictions()["last"], expected)


@pytest.mark.parametrize("arm", ["pooled", "local", "federated"])
def test_without_validation_images_the_last_model_is_the_best(tmp_path: Path, arm: str) -> None:
    config = tiny_config(arm=arm, hospitals__val=0.0, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    if arm == "federated":
        federate(run, config)
    else:
        unfederated.run(config, run, open_source(config.data, config.seed), run.partition(), Watcher())
    assert run.rounds()[-1]["val_dice"] is None
    assert {row["round"] for row in rows(run)} == {"1"}


@pytest.mark.parametrize("arm", ["pooled", "local"])
def test_a_strategys_pull_towards_the_servers_model_is_no_part_of_an_arm_without_a_server(
    tmp_path: Path, arm: str
) -> None:
    free, config = train(tmp_path / "free", arm)
    pulled = {"federation__strategy": "fedprox", "federation__proximal_mu": 50.0}
    bound_config = tiny_config(arm=arm, **pulled)
    bound = tiny_run(tmp_path / "bound", bound_config)
    unfederated.run(bound_config, bound, open_source(config.data, config.seed), bound.partition(), Watcher())
    expected, found = last_weights(free, config), last_weights(bound, bound_config)
    assert all(equal(expected[name], found[name]) for name in expected)


def test_a_training_that_diverges_is_a_named_failure_and_not_a_score_of_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(arm="local")
    run, trainer = tiny_run(tmp_path / "run", config), shared_trainer(config)
    trained = trainer.train

    def diverge(*arguments: Any, **about: Any) -> Trained:
        done = trained(*arguments, **about)
        return replace(done, loss=float("nan")) if (about["round"], about["hospital"]) == (2, "hospital-3") else done

    monkeypatch.setattr(trainer, "train", diverge)
    with pytest.raises(FedpolypError, match="round 2: the training of hospital-3 has diverged, its loss is nan"):
        unfederated.run(config, run, open_source(config.data, config.seed), run.partition(), Watcher())
    assert [record["round"] for record in run.rounds()] == [0, 1]


@pytest.mark.parametrize("arm", ["local", "federated"])
def test_a_run_whose_checkpoints_are_gone_keeps_its_rounds(tmp_path: Path, arm: str) -> None:
    config = tiny_config(arm=arm, federation__rounds=2)
    run = tiny_run(tmp_path / "run", config)
    store = open_source(config.data, config.seed)

    def carry_on() -> None:
        if arm == "federated":
            federate(run, config)
        else:
            unfederated.run(config, run, store, run.partition(), Watcher())

    carry_on()
    before = run.rounds_file.read_bytes()
    for checkpoint in run.checkpoints.rglob("*.npz"):
        checkpoint.unlink()
    with pytest.raises(FedpolypError, match=r"holds no checkpoint to go on from, but .* holds 2 rounds"):
        carry_on()
    assert run.rounds_file.read_bytes() == before
