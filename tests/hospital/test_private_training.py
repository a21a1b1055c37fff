"""A hospital that promises privacy sends one noisy gradient, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.algorithms.base import trainable
from fedpolyp.config import FederationConfig, rate_of
from fedpolyp.errors import Refusal
from fedpolyp.exchange.requests import Evaluate
from fedpolyp.hospital import work
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.private_training import train_privately
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import poisson_sigma, sigma_for
from fedpolyp.privacy.gradients import as_units
from fedpolyp.privacy.keeper import Keeper
from fedpolyp.training import Trainer, shared_trainer
from tests.hospital.test_work import NAME, hospital, received, request
from tests.same_bits import equal

PRIVATE = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}


@pytest.fixture
def private(tmp_path: Path) -> Hospital:
    return hospital(tmp_path, **PRIVATE)


def model(at: Hospital) -> Arrays:
    return shared_trainer(at.config).start.model


def answer(at: Hospital, round: int = 1, weights: Arrays | None = None, **details: Any) -> Any:
    return work.train(request(round, **details), received({"model": weights or model(at)}), at)


def lines(at: Hospital) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (at.state / "privacy.jsonl").read_text().splitlines()]


def test_nothing_leaves_but_the_change_of_trainable_weights_a_declared_number_and_epsilon(private: Hospital) -> None:
    """No loss, exact count, score, moment or moving statistic."""
    declared = replace(private, keeper=replace(Keeper.simulated(0, NAME, private.state), units=20))
    said = answer(declared)
    assert said.said.keys() == {"units", "epsilon"} and said.said["units"] == 20 != len(private.ids.train)
    assert said.sent.keys() == {"model"}
    assert said.sent["model"].keys() == trainable(model(private)).keys()
    assert not [path for path in private.state.iterdir() if path.suffix == ".npz"]  # nor is anything kept


@pytest.mark.slow
def test_frozen_statistics_and_an_encoder_that_does_not_learn_do_not_travel(tmp_path: Path) -> None:
    frozen = {"model__encoder": "mobilenet-v2", "model__frozen_statistics": True, "model__encoder_rate": 0.0}
    at = hospital(tmp_path, **PRIVATE, **frozen, model__encoder_weights="random")
    sent = answer(at).sent["model"]
    assert sent.keys() == trainable(model(at)).keys() < model(at).keys()
    assert {name.startswith("encoder_") for name, array in sent.items() if array.any()} == {False}


def test_the_update_is_the_clipped_sum_with_the_planned_noise_over_the_units(private: Hospital) -> None:
    rate, privacy = private.config.training.learning_rate, private.config.privacy
    assert rate is not None
    sent = answer(private, learning_rate=rate).sent["model"]
    rows, pairs = private.units("group"), private.images("train")
    total = shared_trainer(private.config).clipped_sum(model(private), as_units(*pairs, rows), privacy.clip)
    noise = np.concatenate([(-sent[name] * len(rows) - total[name]).ravel() for name in total])
    assert noise.std() == pytest.approx(sigma_for(8.0, 1e-3, 3), rel=0.01) and abs(noise.mean()) < 0.02
    half = answer(private, learning_rate=rate / 2).sent["model"]  # another order, with noise of its own
    assert np.concatenate([a.ravel() for a in half.values()]).std() == pytest.approx(
        np.concatenate([a.ravel() for a in sent.values()]).std() / 2, rel=0.02
    )


def test_with_joint_noise_each_hospital_adds_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = {"privacy__mode": "joint", "privacy__secure_sums": True, "privacy__secure_least": 5}
    at = hospital(tmp_path, **PRIVATE | joint)
    monkeypatch.setattr("fedpolyp.hospital.work.accepted", lambda *rest: None)
    monkeypatch.setattr("fedpolyp.hospital.work.mask", lambda request, answer, *rest: answer)
    sent = answer(at, learning_rate=at.config.training.learning_rate).sent["model"]
    rows, pairs = at.units("group"), at.images("train")
    total = shared_trainer(at.config).clipped_sum(model(at), as_units(*pairs, rows), at.config.privacy.clip)
    noise = np.concatenate([(-sent[name] * len(rows) - total[name]).ravel() for name in total])
    assert noise.std() == pytest.approx(sigma_for(8.0, 1e-3, 3) / 2, rel=0.01)  # of 5 hospitals 4 keep theirs


def test_the_same_order_twice_gives_the_same_bytes_and_one_line_and_other_weights_other_noise(
    private: Hospital,
) -> None:
    one, again = answer(private), answer(private, keep_from=1, store="elsewhere")
    assert equal(one.sent["model"], again.sent["model"]) and one.said == again.said and len(lines(private)) == 1
    moved = {name: array + np.float32(1e-3) for name, array in model(private).items()}
    other = answer(private, weights=moved)
    change = [one.sent["model"][name] - array for name, array in other.sent["model"].items()]
    assert np.concatenate([array.ravel() for array in change]).std() > 0.05  # two noises, not one
    assert len(lines(private)) == 2 and other.said["epsilon"] > one.said["epsilon"]


def test_a_score_at_the_end_of_the_run_changes_no_noise_of_a_step(private: Hospital, tmp_path: Path) -> None:
    scored = hospital(tmp_path / "scored", **PRIVATE, privacy__score_epsilon=2.0)
    assert equal(answer(private).sent["model"], answer(scored).sent["model"])
    assert lines(private)[0]["sum"] == lines(scored)[0]["sum"]


def test_the_ledger_knows_what_a_step_protects_and_adds_no_step_that_protects_another_unit(
    private: Hospital,
) -> None:
    answer(private)
    images = private.config.privacy.model_copy(update={"unit": "image"})
    at = replace(private, config=private.config.model_copy(update={"privacy": images}))
    with pytest.raises(Refusal, match="sums that protect each group, and the request protects each image"):
        answer(at)
    assert len(lines(private)) == 1


def test_near_duplicates_are_one_unit(private: Hospital) -> None:
    first, second = private.store.positions(private.ids.train)[:2].tolist()
    records = list(private.store.records)
    records[second] = replace(records[second], group=records[first].group)
    alike = replace(private, store=replace(private.store, records=tuple(records)))
    assert alike.units("group") == [[0, 1], *([row] for row in range(2, len(private.ids.train)))]
    assert alike.units("image") == [[row] for row in range(len(private.ids.train))]


def test_its_images_are_not_scored(private: Hospital) -> None:
    for score_set in ("val", "test"):
        with pytest.raises(Refusal, match="scores of a hospital's images do not leave it"):
            work.evaluate(Evaluate(NAME, 1, "", score_set=score_set), received({"model": model(private)}), private)


def test_a_delta_of_one_over_the_units_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"delta must be below one over the \d+ units of this hospital; got 0\.5"):
        answer(hospital(tmp_path, **PRIVATE, privacy__delta=0.5))


class Zeros:
    """A trainer whose sums are zero."""

    def clipped_sum(self, weights: Arrays, *rest: Any) -> Arrays:
        return weights


def test_requests_that_no_experiment_makes_are_refused_and_spend_nothing(tmp_path: Path) -> None:
    """No rounds would have no noise, and a tiny rate would round shares of a sum's noise away before they add up."""
    joint = {"privacy__mode": "joint", "privacy__secure_sums": True, "privacy__secure_least": 5}
    local, shared = hospital(tmp_path, **PRIVATE), hospital(tmp_path, **PRIVATE | joint)
    none = replace(local, config=local.config.model_copy(update={"federation": FederationConfig(rounds=0)}))
    rate, share = rate_of(local.config), sigma_for(8.0, 1e-3, 3) / 2
    too_small = rate * 3.9 / (share / len(local.units("group"))) / 2**32  # 3.9 steps of the fixed-point numbers

    def answered(at: Hospital, round: int, asked: float) -> Any:
        weights = {"a/kernel": np.zeros(5, np.float32)}
        return train_privately(request(round, learning_rate=asked), weights, at, Zeros())  # type: ignore[arg-type]

    for at, round, asked, reason in (
        (none, 1, rate, "the noise is computed for 0 rounds; the request is for round 1"),
        (local, 4, rate, "the noise is computed for 3 rounds; the request is for round 4"),
        (local, 1, 1.001 * rate, "the learning rate of a round is at most that of the experiment"),
        (shared, 1, too_small, "the rounding of a secure sum would be larger than the noise"),
    ):
        with pytest.raises(Refusal, match=reason):
            answered(at, round, asked)
        assert not (at.state / "privacy.jsonl").exists()
    for at, asked in ((local, too_small), (shared, 1.1 * too_small), (shared, 0.0), (local, rate)):
        assert answered(at, 1, asked).said["epsilon"] > 0


DRAWN = PRIVATE | {"privacy__batches": "poisson", "privacy__batch": 4}


class Spy:
    """Notes which units the hospital adds up; each of them adds 0.5 to every number."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.units: list[Any] = []
        self.added = 0.5
        self.total: Arrays = {}

        def clipped_sum(trainer: Trainer, weights: Arrays, units: Any, clip: float) -> Arrays:
            self.units = list(units)
            value = np.float32(self.added * len(self.units))
            self.total = {name: np.full_like(array, value) for name, array in trainable(weights).items()}
            return self.total

        patch.setattr(Trainer, "clipped_sum", clipped_sum)

    def noise(self, sent: Arrays, divisor: float) -> Any:
        """What was added to the sum, if the sum was divided by `divisor`; the clip is 1, the rate undiminished."""
        return np.concatenate([(-sent[name] * divisor - self.total[name]).ravel() for name in self.total])


def test_drawn_units_are_divided_by_the_expected_number_and_have_the_planned_noise_also_if_none_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = hospital(tmp_path, **DRAWN)
    spy, rate, units = Spy(monkeypatch), at.config.training.learning_rate, len(at.ids.train)
    sigma = poisson_sigma(8.0, 1e-3, 3, 4 / units)
    for round, none in ((1, False), (2, True)):
        if none:
            monkeypatch.setattr(Keeper, "drawn", lambda *rest: [])
        said = answer(at, round, learning_rate=rate)
        assert len(spy.units) == 0 if none else 0 < len(spy.units) < units
        noise = spy.noise(said.sent["model"], divisor=4)
        assert noise.std() == pytest.approx(sigma, rel=0.02) and abs(noise.mean()) < 0.02
        assert said.said["units"] == units and said.said.keys() == {"units", "epsilon"}
    assert [(line["sigma"], line["rate"]) for line in lines(at)] == [(sigma, 4 / units)] * 2


def test_a_repeated_order_draws_the_same_units_and_one_of_other_images_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = hospital(tmp_path, **DRAWN | {"privacy__batch": 7})
    spy = Spy(monkeypatch)
    one, first = answer(at), spy.units
    again, second = answer(at), spy.units
    assert equal(one.sent["model"], again.sent["model"]) and one.said == again.said and len(lines(at)) == 1
    assert [unit[0][0].tobytes() for unit in first] == [unit[0][0].tobytes() for unit in second]
    moved = at.store.masks.copy()
    moved[at.store.positions(at.ids.train[-1:])] ^= 1
    answer(replace(at, store=replace(at.store, masks=moved)))
    assert [unit[0][0].tobytes() for unit in spy.units] != [unit[0][0].tobytes() for unit in first]


def test_an_order_whose_sum_has_other_bits_on_another_processor_has_units_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger counts both sums as if their units were drawn independently."""
    at = hospital(tmp_path, **DRAWN | {"privacy__batch": 7})
    spy = Spy(monkeypatch)
    answer(at)
    first, spy.added = spy.units, 0.5 + 2**-20
    one, second = answer(at), spy.units
    assert [unit[0][0].tobytes() for unit in first] != [unit[0][0].tobytes() for unit in second]
    again = answer(at)
    assert equal(one.sent["model"], again.sent["model"]) and one.said == again.said
    assert len({line["draw"] for line in lines(at)}) == len(lines(at)) == 2


def test_the_probability_is_by_the_declared_number_and_no_batch_is_larger_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = hospital(tmp_path, **DRAWN)
    Spy(monkeypatch)
    for declared, rate in ((40, 0.1), (5, 0.8)):
        answer(replace(at, keeper=replace(Keeper.simulated(0, NAME, at.state), units=declared)))
        assert lines(at)[-1]["rate"] == rate
    answer(replace(at, keeper=replace(Keeper.simulated(0, NAME, at.state), units=4)))
    assert "rate" not in lines(at)[-1] and lines(at)[-1]["sigma"] == sigma_for(8.0, 1e-3, 3)
    with pytest.raises(Refusal, match="^a batch cannot have more than the 3 units of this hospital; got 4$"):
        answer(replace(at, keeper=replace(Keeper.simulated(0, NAME, at.state), units=3)))
