"""A hospital looks at its update before it masks it, for nobody else can; and opens what it has masked alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.aggregation.opaque import MASKED, SEED, SUM
from fedpolyp.algorithms.base import MODEL
from fedpolyp.config import Config, load
from fedpolyp.data.partition.partition import HospitalImages
from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Train, Unmask, listed
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.masking import mask, unmask
from fedpolyp.model.arrays import Arrays
from fedpolyp.privacy.fixed_point import encode
from fedpolyp.privacy.secure_sum import Opening, opened

SENT: Arrays = {"a/kernel": np.ones((2, 3), np.float32), "a/moving_variance": np.ones(3, np.float32)}
CHANGE: Arrays = {"a/kernel": np.full((2, 3), 0.25, np.float32), "a/moving_variance": np.full(3, -0.5, np.float32)}
THREE = ("hospital-1", "hospital-2", "hospital-3")


def config(**settings: Any) -> Config:
    given = {"privacy.secure_sums": True, "training.optimizer_state": "reset"}
    return load(overrides=given | {name.replace("__", "."): value for name, value in settings.items()})


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    none = HospitalImages((), (), ())
    return Hospital("hospital-1", config(), None, none, tmp_path / "state")  # type: ignore[arg-type]


def masked(
    hospital: Hospital,
    change: Arrays = CHANGE,
    members: tuple[str, ...] = THREE,
    round: int = 1,
    rate: float = 0.03,
    like: Arrays | None = None,
) -> Answer:
    said: dict[str, float] = {"images": 8, "train_loss": 0.5, "steps": 1}
    if hospital.config.privacy.on:
        said = {"units": 8, "epsilon": 1.0}
    answer, sent = Answer(said, {MODEL: change}), {MODEL: SENT if like is None else like}
    request = Train(hospital.name, round, "{}", members=listed(members), learning_rate=rate)
    return mask(request, answer, sent, sent, hospital)


def opening(
    hospital: Hospital, survivors: tuple[str, ...] = THREE, members: tuple[str, ...] = THREE, round: int = 1
) -> Answer:
    return unmask(Unmask(hospital.name, round, "{}", members=listed(members), survivors=listed(survivors)), hospital)


def changed(**arrays: Any) -> Arrays:
    return CHANGE | {name.replace("__", "/"): value for name, value in arrays.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(a__kernel=np.full((2, 3), np.nan, np.float32)), "a/kernel has values that are not finite numbers"),
        (changed(a__moving_variance=np.full(3, -2, np.float32)), "a/moving_variance goes down to -1, and cannot be"),
        (changed(a__kernel=np.full((2, 3), 2e9, np.float32)), "a/kernel has values beyond 1e\\+09"),
        (changed(a__kernel=np.full((2, 3), 9e8, np.float32)), "a/kernel of the model has larger numbers than 4\\.47e"),
        ({"a/kernel": CHANGE["a/kernel"]}, "array names differ"),
    ],
)
def test_an_update_that_nobody_would_take_never_leaves(change: Arrays, reason: str, hospital: Hospital) -> None:
    with pytest.raises(Refusal, match=f"its update cannot be summed up: .*{reason}"):
        masked(hospital, change)
    with pytest.raises(Refusal, match="this hospital has masked nothing"):
        opening(hospital)


def test_what_leaves_is_the_weighted_update_once_all_have_opened(hospital: Hospital) -> None:
    every = [replace(hospital, name=name, state=hospital.state / name) for name in THREE]
    total = np.zeros(10, np.uint64)
    for one in every:
        answer = masked(one)
        assert answer.said == {"images": 8, "train_loss": 0.5, "steps": 1} and list(answer.sent[MASKED]) == [SUM]
        total += answer.sent[MASKED][SUM]
    plain = np.uint64(3) * encode({MODEL: CHANGE}, 8, 3)
    for one in every:
        assert not np.isin(total, plain).any()
        seed = opening(one).sent[MASKED][SEED]
        opened(total, Opening(seed.tobytes()))
    np.testing.assert_array_equal(total, plain)


def test_equal_weights_are_ones(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedpolyp.privacy.secure_sum._add", lambda total, seed, takes_off=False: None)
    np.testing.assert_array_equal(masked(hospital).sent[MASKED][SUM], encode({MODEL: CHANGE}, 8, 3))
    alike = replace(hospital, config=config(federation__weights="equal"))
    np.testing.assert_array_equal(masked(alike).sent[MASKED][SUM], encode({MODEL: CHANGE}, 1, 3))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (THREE[:2], "a secure sum is of 3 hospitals at least; 2 are named"),
        ((*THREE, "hospital-2"), "a hospital of a sum is named twice"),
        (("hospital-2", "hospital-3", "hospital-4"), "the key of hospital-1 in the sum is not that of this hospital"),
        ((), "a secure sum is of 3 hospitals at least; 0 are named"),
    ],
)
def test_sums_that_hide_nothing_are_not_taken_part_in(
    members: tuple[str, ...], reason: str, hospital: Hospital
) -> None:
    with pytest.raises(Refusal, match=reason):
        masked(hospital, members=members)


def test_it_opens_what_it_masked_last_and_once_a_round(hospital: Hospital) -> None:
    four = (*THREE, "hospital-4")
    masked(hospital, members=four)
    with pytest.raises(Refusal, match="masked nothing for that sum of round 1"):
        opening(hospital)  # of other members
    with pytest.raises(Refusal, match="masked nothing for that sum of round 2"):
        opening(hospital, four, four, round=2)
    with pytest.raises(Refusal, match="no sum of fewer than 3 hospitals is opened"):
        opening(hospital, THREE[:2], four)
    assert not (hospital.state / "openings.jsonl").exists()
    first = opening(hospital, THREE, four)
    assert list(first.sent[MASKED]) == [SUM]  # somebody is lost: one number for each of the update's
    np.testing.assert_array_equal(first.sent[MASKED][SUM], opening(hospital, THREE, four).sent[MASKED][SUM])
    with pytest.raises(Refusal, match="told of other survivors"):
        opening(hospital, four, four)
    masked(hospital, changed(a__kernel=np.zeros((2, 3), np.float32)), four)
    with pytest.raises(Refusal, match="has opened another sum"):
        opening(hospital, THREE, four)
    masked(hospital, members=four)  # the very same again, as after an interruption
    np.testing.assert_array_equal(first.sent[MASKED][SUM], opening(hospital, THREE, four).sent[MASKED][SUM])


def test_an_update_that_does_not_change_from_round_to_round_is_refused_in_a_sentence_that_says_what_to_do(
    hospital: Hospital,
) -> None:
    """As with a rate so small that a sum's numbers do not change. It is said before anybody waits for the sum."""
    for round, tiny in ((1, 1e-11), (2, -1e-11)):
        arrays = {name: np.full_like(array, tiny) for name, array in CHANGE.items()}
        if round == 1:
            masked(hospital, arrays, round=round)
            opening(hospital, round=round)
            continue
        said = "in round 2 its update is bit for bit that of round 1, .* changes nothing; give a larger --learning-rate"
        with pytest.raises(Refusal, match=said):
            masked(hospital, arrays, round=round)
    masked(hospital, round=2)  # something changes again
    opening(hospital, round=2)


def test_an_update_with_another_weight_is_the_same_update(hospital: Hospital) -> None:
    """With equal weights and by images: the difference of sums over other hospitals could be a single update."""
    alike = replace(hospital, config=config(federation__weights="equal"))
    masked(alike)
    opening(alike)
    with pytest.raises(Refusal, match="in round 2 its update is bit for bit that of round 1"):
        masked(hospital, round=2)
    masked(replace(hospital, state=hospital.state / "fresh"), round=2)


@pytest.mark.parametrize(
    ("other", "rate"),
    [
        ({}, 0.03),
        ({"privacy__epsilon": 1e6}, 0.03),
        ({"federation__rounds": 1}, 0.03),
        ({"privacy__clip": 1e-3}, 0.03),
        ({"privacy__secure_least": 4}, 0.03),
        ({"privacy__mode": "off", "training__optimizer_state": "reset"}, 0.03),
        ({"training__learning_rate": 1.0}, 0.03),
        ({}, 1e-6),
    ],
)
def test_a_hospital_that_was_asked_for_other_noise_than_the_others_opens_nothing_to_anybody(
    other: dict[str, Any], rate: float, tmp_path: Path
) -> None:
    """A coordinator that tells all others to add less noise would read this one's share with too little."""
    four = (*THREE, "hospital-4")
    joint = {"privacy__mode": "joint", "algorithm__name": "fedadam", "model__normalization": "group"}
    learnt = {"a/kernel": CHANGE["a/kernel"]}
    total, none = np.zeros(7, np.uint64), HospitalImages((), (), ())
    settings = [joint, *[joint | other] * 3]
    every = [
        Hospital(name, config(**own), None, none, tmp_path / name)  # type: ignore[arg-type]
        for name, own in zip(four, settings, strict=True)
    ]
    for one in every:
        own = masked(one, learnt, four, rate=0.03 if one.name == "hospital-1" else rate, like=learnt)
        total += own.sent[MASKED][SUM]
    for one in every:
        opened(total, Opening(opening(one, four, four).sent[MASKED][SEED].tobytes()))
    words = encode({MODEL: learnt}, 8, 4)
    assert np.array_equal(total, np.uint64(4) * words) == (not other and rate == 0.03)


def test_no_request_to_open_lowers_the_number_of_hospitals_for_which_it_has_masked(tmp_path: Path) -> None:
    """A share of joint noise is computed for this number, so a sum of fewer would have too little."""
    five = tuple(f"hospital-{number}" for number in range(1, 6))
    none, wide = HospitalImages((), (), ()), config(privacy__secure_least=5)
    hospital = Hospital(five[0], wide, None, none, tmp_path / "state")  # type: ignore[arg-type]
    masked(hospital, members=five)
    with pytest.raises(Refusal, match="no sum of fewer than 5 hospitals is opened; 3 are named"):
        opening(replace(hospital, config=config(privacy__secure_least=3)), five[:3], five)
    assert list(opening(replace(hospital, config=config(privacy__secure_least=3)), five, five).sent[MASKED]) == [SEED]


def test_a_reason_says_no_number_of_the_update(hospital: Hospital) -> None:
    with pytest.raises(Refusal) as refused:
        masked(hospital, changed(a__kernel=np.full((2, 3), 123456789, np.float32)))
    assert "1.23e" not in str(refused.value)


def test_without_secure_sums_there_is_nothing_to_unmask(hospital: Hospital) -> None:
    with pytest.raises(Refusal, match="there is nothing to unmask: this run has no secure sums"):
        opening(replace(hospital, config=load()))


@pytest.mark.parametrize("content", ["{}", "[]", '{"round": 1, "sum": "zz", "masked": "", "words": 1}'])
def test_a_damaged_note_of_what_was_masked_is_said(content: str, hospital: Hospital) -> None:
    masked(hospital)
    (hospital.state / "masked.json").write_text(content)
    with pytest.raises(FedpolypError, match="masked.json is damaged: remove it, and this hospital sits out the round"):
        opening(hospital)
