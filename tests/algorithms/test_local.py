"""Local training: every hospital for itself, through the same rounds as a federation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import Trained
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.runs import RunFolder
from fedpolyp.training import Trainer, learning_rate, shared_trainer
from tests.algorithms.test_pooled import starts_with_the_federation
from tests.algorithms.unfederated import StopIn, carry, rows, trained
from tests.same_bits import equal
from tests.tiny import Whole, federate, final, tiny_config, tiny_run


@pytest.fixture
def local(whole: Whole) -> tuple[RunFolder, Config]:
    """A run that was carried to its end; nobody changes it."""
    config = tiny_config(algorithm__name="local")
    return whole(config), config


@pytest.mark.slow
@pytest.mark.parametrize("stop", [StopIn(0), StopIn(2), StopIn(2, "hospital-2")], ids=["start", "between", "within"])
def test_a_resumed_run_ends_in_the_bits_of_one_never_interrupted(tmp_path: Path, stop: StopIn) -> None:
    whole, config = trained(tmp_path / "whole", "local")
    broken, _ = trained(tmp_path / "broken", "local", stop)
    expected, found = final(whole, config), final(broken, config)
    assert expected.state.keys() == found.state.keys() and len(expected.models) == 3
    assert all(equal(expected.state[group], found.state[group]) for group in expected.state)
    assert whole.images_file.read_bytes() == broken.images_file.read_bytes()
    assert [record["round"] for record in broken.rounds()] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_run_that_dies_while_it_saves_a_round_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, config = trained(tmp_path / "whole", "local", runtime__keep_checkpoints=1)
    run = tiny_run(tmp_path / "broken", config)
    save = checkpoints.save

    def die(folder: Path, checkpoint: checkpoints.Checkpoint, keep: int) -> None:
        if checkpoint.round == 3:
            raise KeyboardInterrupt
        save(folder, checkpoint, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", die)
        with pytest.raises(KeyboardInterrupt):
            carry(run, config)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]  # one more than there are checkpoints of
    carry(run, config)
    expected, found = final(whole, config).state, final(run, config).state
    assert all(equal(expected[group], found[group]) for group in expected)
    assert [record["round"] for record in run.rounds()] == [0, 1, 2, 3]


def test_a_local_model_is_its_own_hospitals_images_trained_alone(local: tuple[RunFolder, Config]) -> None:
    run, config = local
    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    positions = store.positions(run.partition().hospitals["hospital-2"].train)
    arrays, optimizer = trainer.initial, trainer.start.optimizer
    for number in (1, 2, 3):
        done = trainer.train(
            arrays,
            store.images[positions],
            store.masks[positions],
            hospital="hospital-2",
            round=number,
            learning_rate=learning_rate(config, number),
            optimizer=optimizer,
        )
        arrays, optimizer = done.arrays, done.optimizer
    assert equal(final(run, config).models["hospital-2"], arrays)


@pytest.mark.slow
def test_the_arm_starts_where_the_federation_of_the_same_seed_starts(whole: Whole) -> None:
    starts_with_the_federation(whole, "local")


def test_every_local_model_is_scored_on_every_hospitals_test_images(local: tuple[RunFolder, Config]) -> None:
    run, _ = local
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


def test_each_row_is_what_its_own_model_sees(local: tuple[RunFolder, Config]) -> None:
    run, config = local
    trainer, store = shared_trainer(config), open_source(config.data, config.seed)
    last = final(run, config)
    for of, own in run.partition().hospitals.items():
        positions = store.positions(own.test)
        for kind in ("last", "best"):
            for hospital, model in last.models.items():
                if kind == "best":
                    round = last.best[hospital].round
                    model = checkpoints.load(run.checkpoints, round, run.fingerprint()).models[hospital]
                seen = trainer.evaluate(model, store.images[positions], store.masks[positions])
                found = [row for row in rows(run) if (row["model"], row["set"]) == (f"{kind}:{hospital}", f"test:{of}")]
                assert [[int(row[name]) for name in ("tp", "fp", "fn", "tn")] for row in found] == seen.counts.tolist()


def test_the_local_arms_headline_is_the_mean_over_the_hospitals_models(local: tuple[RunFolder, Config]) -> None:
    run, _ = local
    held_out = [row for row in rows(run) if row["set"] == "heldout" and row["model"].startswith("last:")]
    counts = np.array([[int(row[name]) for name in ("tp", "fp", "fn")] for row in held_out])
    dice = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts]
    assert run.rounds()[-1]["dice"] == pytest.approx(np.mean(dice))
    assert set(run.rounds()[-1]["hospitals"]) == set(run.partition().hospitals)


def test_the_masks_left_behind_are_those_that_were_scored(local: tuple[RunFolder, Config]) -> None:
    run, config = local
    store = open_source(config.data, config.seed)
    truth = store.masks[store.positions(run.partition().heldout)]
    for name, masks in run.predictions().items():
        scored = [int(row["tp"]) for row in rows(run) if (row["model"], row["set"]) == (name, "heldout")]
        assert (masks & truth).sum(axis=(1, 2)).tolist() == scored
    assert list(run.predictions()) == ["last:hospital-1", "last:hospital-2", "last:hospital-3"]


@pytest.mark.slow
def test_a_federated_run_leaves_its_masks_too(tmp_path: Path) -> None:
    config = tiny_config()
    run = tiny_run(tmp_path / "run", config)
    federate(run, config)
    store = open_source(config.data, config.seed)
    positions = store.positions(run.partition().heldout)
    expected = shared_trainer(config).predict(final(run, config).state["model"], store.images[positions])
    assert np.array_equal(run.predictions()["last"], expected)


@pytest.mark.parametrize("arm", ["pooled", "local"])
def test_an_algorithms_own_settings_are_refused_in_an_arm_without_a_server(arm: str) -> None:
    with pytest.raises(FedpolypError, match=r"^algorithm\.mu is not a setting"):
        tiny_config(algorithm__name=arm, algorithm__mu=50.0)


def test_a_training_that_diverges_is_a_named_failure_and_not_a_score_of_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(algorithm__name="local")
    run, usual = tiny_run(tmp_path / "run", config), Trainer.train

    def diverge(*arguments: Any, **about: Any) -> Trained:
        done = usual(*arguments, **about)
        return replace(done, loss=float("nan")) if (about["round"], about["hospital"]) == (2, "hospital-3") else done

    monkeypatch.setattr(Trainer, "train", diverge)
    with pytest.raises(FedpolypError, match="round 2: the training of hospital-3 has diverged"):
        carry(run, config)
    assert [record["round"] for record in run.rounds()] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["local", "fedavg"])
def test_a_run_whose_checkpoints_are_gone_keeps_its_rounds(tmp_path: Path, algorithm: str) -> None:
    config = tiny_config(algorithm__name=algorithm, federation__rounds=2)
    run = tiny_run(tmp_path / "run", config)
    carry_on = carry if algorithm == "local" else federate
    carry_on(run, config)
    before = run.rounds_file.read_bytes()
    for checkpoint in run.checkpoints.rglob("*.npz"):
        checkpoint.unlink()
    with pytest.raises(FedpolypError, match=r"holds no checkpoint to resume from, but .* holds 2 rounds"):
        carry_on(run, config)
    assert run.rounds_file.read_bytes() == before
