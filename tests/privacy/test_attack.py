"""Attacks on runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp import checkpoints
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store
from fedpolyp.privacy.attack import CALIBRATED, LOSS, WHOSE, _Run, attack
from fedpolyp.runs import RunFolder
from tests.tiny import Whole, tiny_config

Trained = Callable[..., tuple[RunFolder, Store]]


@pytest.fixture
def trained(whole: Whole) -> Trained:
    """Makes the finished run with some settings, which no attack changes, and the store of its images."""

    def made(**overrides: Any) -> tuple[RunFolder, Store]:
        config = tiny_config(**overrides)
        return whole(config), open_source(config.data, config.data_seed)

    return made


@pytest.mark.parametrize("kept", ["reset", "keep", "average"])
def test_the_updates_that_are_attacked_are_those_that_made_the_last_model(trained: Trained, kept: str) -> None:
    run, store = trained(training__optimizer_state=kept)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    of = _Run(run, store)
    earlier = checkpoints.load(run.checkpoints, 2, run.fingerprint())
    models = dict(of._updated(earlier))
    assert list(models) == list(of.hospitals)
    weights = np.array([len(own.train) for own in of.hospitals.values()], float)
    for name, array in of.last.models[""].items():
        mean = np.average([model[name] for model in models.values()], axis=0, weights=weights)
        np.testing.assert_allclose(mean, array, rtol=1e-4, atol=1e-6)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_the_model_each_update_and_the_sum_are_attacked_by_both_signals(trained: Trained) -> None:
    run, store = trained()
    found = attack(run, store)
    names = [f"update of hospital-{number}" for number in (1, 2, 3)]
    by_target = {(row.target, row.signal): row.success for row in found.rows}
    both = [(one, signal) for one in ("model", *names, "sum of updates") for signal in (LOSS, CALIBRATED)]
    between = [(name, WHOSE) for name in names]
    assert sorted(by_target) == sorted(both + between) and found.left_out == ()
    partition = run.partition()
    every = sum(len(own.train) for own in partition.hospitals.values())
    others = len(partition.heldout) + sum(len(own.test) for own in partition.hospitals.values())
    whole = by_target["model", LOSS]
    assert (whole.members, whole.others) == (every, others)
    assert by_target[names[0], LOSS].members == len(partition.hospitals["hospital-1"].train)
    assert by_target[between[0]].others == every - len(partition.hospitals["hospital-1"].train)


def test_where_nothing_travels_only_models_are_attacked_and_it_is_said(trained: Trained) -> None:
    run, store = trained(algorithm__name="local")
    found = attack(run, store)
    assert {row.target for row in found.rows} == {f"model of hospital-{number}" for number in (1, 2, 3)}
    assert found.left_out == ("Nothing travels with local, so there is no update to attack.",)
    cyclic, store = trained(algorithm__name="cyclic")
    assert "one after the other" in attack(cyclic, store).left_out[0]


def test_with_secure_sums_the_sum_is_attacked_and_no_update(trained: Trained) -> None:
    run, store = trained(privacy__secure_sums=True, training__optimizer_state="reset")
    found = attack(run, store, pictures=1)
    assert {row.target for row in found.rows} == {"model", "sum of updates"} and found.inverted == ()
    assert found.left_out == ("With secure sums the server has no single update to attack.",)


def test_updates_whose_checkpoint_is_gone_are_left_out_and_it_is_said(tmp_path: Path, trained: Trained) -> None:
    finished, store = trained()
    run = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    next(run.checkpoints.glob("round-*2.npz")).unlink()
    found = attack(run, store)
    assert "The checkpoint before the last is gone" in found.left_out[0]
    assert {row.target for row in found.rows} == {"model"}


@pytest.mark.slow
def test_images_of_different_hospitals_are_inverted_where_the_server_sees_updates(trained: Trained) -> None:
    run, store = trained()
    found = attack(run, store, pictures=4, steps=1)
    own = [hospital.train for _, hospital in sorted(run.partition().hospitals.items())]
    assert [one.id for one in found.inverted] == [own[0][0], own[1][0], own[2][0], own[0][1]]
    original = store.images[store.positions([own[1][0]])[0]]
    np.testing.assert_array_equal(found.inverted[1].original, original)
    local, store = trained(algorithm__name="local")
    assert attack(local, store, pictures=1).inverted == ()


@pytest.mark.slow
def test_a_model_that_learnt_its_images_by_heart_gives_them_away(trained: Trained) -> None:
    run, store = trained(
        algorithm__name="local",
        training__augment=False,
        training__local_epochs=100,
        federation__rounds=2,
        data__phantom_images=120,
    )
    by_loss = [row.success for row in attack(run, store).rows if row.signal == LOSS]
    assert all(one.auc > 0.8 and one.low > 0.5 for one in by_loss)
