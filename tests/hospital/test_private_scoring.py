"""A hospital that promises privacy gives one noisy number for its test images, and nothing else."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.algorithms.base import Start
from fedpolyp.errors import Refusal
from fedpolyp.exchange.requests import Evaluate
from fedpolyp.hospital import private_scoring, work
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.accounting import Noise, delta_of
from fedpolyp.privacy.keeper import Keeper
from fedpolyp.privacy.ledger import Limit
from fedpolyp.privacy.noise import NoiseStream
from fedpolyp.training import Evaluation
from tests.hospital.test_private_training import PRIVATE
from tests.hospital.test_work import NAME, hospital, received

WEIGHTS: Arrays = {"kernel": np.ones(3, np.float32)}
SIGMA = 1.4452391623749816  # of epsilon 2 at delta 0.001, once


@dataclass
class Scorer:
    """Gives an image of the hospital the Dice that was set for it by id, otherwise 0.5."""

    at: Hospital
    dice: dict[str, float] = field(default_factory=dict)
    start: Start = field(default_factory=lambda: Start(WEIGHTS, {}))

    def evaluate(self, weights: Arrays, images: Any, masks: Any) -> Evaluation:
        """In place of the trainer's; one image at a time, so that no score depends on the others."""
        assert len(images) == len(masks) == 1
        every, _ = self.at.images("test")
        id = next(own for own, image in zip(self.at.ids.test, every, strict=True) if np.array_equal(image, images[0]))
        right = round(1000 * self.dice.get(id, 0.5))  # 2 tp / (2 tp + fp + fn)
        counts = np.array([[right, 1000 - right, 1000 - right, 0]], np.int64)
        return Evaluation(counts, np.zeros(1), masks)


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """A hospital whose test images are units of their own, and what scores them."""
    at = hospital(tmp_path, **PRIVATE, privacy__score_epsilon=2.0, hospitals__test=0.4)
    assert len(at.ids.test) >= 6
    found = Scorer(at)
    monkeypatch.setattr(private_scoring, "shared_trainer", lambda config: found)
    return found


def with_records(at: Hospital, of: dict[str, dict[str, Any]]) -> Hospital:
    """The hospital whose images have other records."""
    records = [replace(record, **of.get(record.id, {})) for record in at.store.records]
    return replace(at, store=replace(at.store, records=tuple(records)))


def joined(at: Hospital, count: int) -> Hospital:
    """The hospital whose first `count` test images are one unit."""
    return with_records(at, {id: {"group": -7} for id in at.ids.test[:count]})


def declaring(at: Hospital, test_units: int | None, limit: Limit | None = None) -> Hospital:
    """The hospital as a site is, which declares numbers."""
    keeper = Keeper.simulated(0, NAME, at.state)
    return replace(at, keeper=replace(keeper, units=20, test_units=test_units, limit=limit))


def answer(at: Hospital, round: int = 3, weights: Arrays = WEIGHTS, **details: Any) -> Any:
    request = Evaluate(NAME, round, "", **{"score_set": "test"} | details)
    return work.evaluate(request, received({"model": weights}), at)


def lines(at: Hospital) -> list[dict[str, Any]]:
    ledger = at.state / "privacy.jsonl"
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


@pytest.fixture
def no_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every normal number is 1."""
    monkeypatch.setattr(NoiseStream, "normal", lambda stream, count: np.ones(count))


def spied_total(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The exact sums before the noise."""
    totals, noisy = list[float](), Keeper.noisy

    def spy(keeper: Keeper, total: Arrays, *rest: Any, **more: Any) -> Arrays:
        totals.append(float(total["dice"][0]))
        return noisy(keeper, total, *rest, **more)

    monkeypatch.setattr(Keeper, "noisy", spy)
    return totals


@pytest.mark.usefixtures("no_luck")
def test_the_score_is_the_sum_of_the_units_mean_dice_with_noise_over_the_declared_number(scorer: Scorer) -> None:
    """By hand: 0.2 and 0.6 are one unit of 0.4; it adds -0.1, and the four units of 0.9 or 0.5 add 0.4."""
    at = joined(scorer.at, 2)
    at = replace(at, ids=replace(at.ids, test=at.ids.test[:6]))
    scorer.dice = dict(zip(at.ids.test, (0.2, 0.6, 0.9, 0.5, 0.5, 0.5), strict=True))
    said = answer(declaring(at, 8))
    assert said.said["noisy_dice"] == pytest.approx(0.5 + (0.3 + SIGMA / 2) / 8, abs=1e-9)
    assert said.said["deviation"] == pytest.approx(SIGMA / 2 / 8)
    simulated = answer(at)  # of five units, as the partition already knows
    assert simulated.said["noisy_dice"] == pytest.approx(0.5 + (0.3 + SIGMA / 2) / 5, abs=1e-9)
    assert delta_of(2.0, 1 / SIGMA) == pytest.approx(
        1e-3
    )  # of a sum in which a unit has 1 at most, or half the noise for 1/2


def test_a_reply_holds_a_noisy_mean_its_noise_and_epsilon_and_no_true_count_score_or_loss(scorer: Scorer) -> None:
    said = answer(declaring(scorer.at, 20))
    assert said.said.keys() == {"noisy_dice", "deviation", "epsilon"} and said.sent == {}
    assert said.said["deviation"] == pytest.approx(SIGMA / 2 / 20) and len(scorer.at.ids.test) != 20
    assert said.said["epsilon"] == pytest.approx(2.0)
    assert lines(scorer.at)[0].keys() == {"time", "run", "round", "sigma", "sum", "what"}


@pytest.mark.parametrize("dice", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 5])
def test_a_unit_more_changes_the_sum_by_one_half_at_most_however_many_images_it_has(
    count: int, dice: float, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, at = spied_total(monkeypatch), joined(scorer.at, count)
    scorer.dice = dict.fromkeys(at.ids.test, dice)
    answer(at)
    answer(replace(at, ids=replace(at.ids, test=at.ids.test[count:])))
    assert abs(totals[0] - totals[1]) == 0.5 and totals[0] == (dice - 0.5) * (len(at.ids.test) - count + 1)


@pytest.mark.usefixtures("no_luck")
def test_images_without_a_polyp_count_as_little_as_in_other_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals, at = spied_total(monkeypatch), joined(scorer.at, 2)
    masks = at.store.masks.copy()
    masks[at.store.positions(at.ids.test[1:3])] = 0  # one of the joint unit, and a unit of its own
    bare = replace(at, store=replace(at.store, masks=masks))
    scorer.dice = {at.ids.test[0]: 0.8, at.ids.test[1]: 0.0, at.ids.test[2]: 0.0}
    told, units = answer(bare).said, len(at.ids.test) - 2
    assert totals == [pytest.approx(0.8 - 0.5)]
    assert told["deviation"] == pytest.approx(SIGMA / 2 / units)
    masks[at.store.positions(at.ids.test)] = 0
    with pytest.raises(Refusal, match="^none of this hospital's test images has a polyp, so it has no score$"):
        answer(bare)
    assert answer(declaring(bare, 8)).said["noisy_dice"] == pytest.approx(0.5 + SIGMA / 2 / 8)  # a site does not tell


def test_the_same_request_twice_has_the_same_bits_and_one_line_and_other_weights_other_noise(scorer: Scorer) -> None:
    at = scorer.at
    one, again = answer(at), answer(at, store="elsewhere", counted=2)
    assert one.said == again.said and len(lines(at)) == 1
    other = answer(at, weights={"kernel": np.full(3, 2, np.float32)})  # whose exact score is the same
    assert abs(other.said["noisy_dice"] - one.said["noisy_dice"]) > 1e-6
    assert [line["what"] for line in lines(at)] == ["score"] * 2 and other.said["epsilon"] > one.said["epsilon"]
    scorer.dice = {at.ids.test[0]: 0.501}
    assert abs(answer(at).said["noisy_dice"] - one.said["noisy_dice"]) > 0.002 / len(at.ids.test)
    assert len(lines(at)) == 3


def test_its_noise_counts_together_with_that_of_steps_and_beyond_the_limit_nothing_leaves(scorer: Scorer) -> None:
    at = declaring(scorer.at, 8, Limit(3.0, 1e-3))
    keeper = at.keeper
    assert keeper is not None
    keeper.ledger.spend("a step", Noise(1.2), "another run", 1)
    with pytest.raises(Refusal, match=r"^this site spends at most epsilon 3 at delta 0\.001 .* it would be 3\.\d\d$"):
        answer(at)
    assert len(lines(at)) == 1
    assert answer(declaring(scorer.at, 8)).said["epsilon"] > 3.0


def test_with_joint_noise_its_score_has_all_of_its_noise_alone(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = {"privacy__mode": "joint", "privacy__secure_sums": True, "privacy__score_epsilon": 2.0}
    scorer.at = at = hospital(tmp_path / "joint", **PRIVATE | joint)
    monkeypatch.setattr(NoiseStream, "normal", lambda stream, count: np.zeros(count))
    silent = answer(at).said["noisy_dice"]
    monkeypatch.setattr(NoiseStream, "normal", lambda stream, count: np.ones(count))
    units = len(at.ids.test)
    assert answer(at).said["noisy_dice"] - silent == pytest.approx(SIGMA / 2 / units)
    assert "sharers" not in lines(at)[0] and lines(at)[0]["sigma"] == pytest.approx(SIGMA)


@pytest.mark.parametrize("details", [{"score_set": "val"}, {"own": True}, {"distances": True}])
def test_no_other_score_leaves(details: dict[str, Any], scorer: Scorer) -> None:
    with pytest.raises(Refusal, match="do not leave it, but for the noisy mean Dice of its test images$"):
        answer(scorer.at, **details)
    assert lines(scorer.at) == []


def test_a_hospital_that_cannot_keep_the_promise_gives_none(scorer: Scorer) -> None:
    with pytest.raises(Refusal, match=r"^this site has no declared_test_units in its site\.toml, so it gives no noisy"):
        answer(declaring(scorer.at, None))
    with pytest.raises(Refusal, match="delta must be below one over the 1000 test units of this hospital; got 0.001"):
        answer(declaring(scorer.at, 1000))
    patients = scorer.at.config.privacy.model_copy(update={"unit": "patient"})
    at = replace(scorer.at, config=scorer.at.config.model_copy(update={"privacy": patients}))
    with pytest.raises(Refusal, match="cannot protect patient by patient"):
        answer(at)
    known = with_records(at, {id: {"patient": place // 3} for place, id in enumerate(at.ids.test)})
    told = answer(known).said
    assert lines(at)[0]["unit"] == "patient"
    assert told["deviation"] == pytest.approx(SIGMA / 2 / -(-len(at.ids.test) // 3))
    assert len(lines(at)) == 1
