"""A run that promises privacy: what is asked, what is written down, and that it goes on to the same bits."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.config import Config, load
from fedpolyp.errors import UsageError
from fedpolyp.exchange.replies import Answer, Reply
from fedpolyp.exchange.requests import Evaluate, Request, Train
from fedpolyp.privacy.words import noisy_scores, paragraph, scores
from tests.tiny import Notes, carry_here, carry_listening, tiny_config, tiny_run, whole_and_interrupted


def private(**settings: Any) -> Config:
    given = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    return tiny_config(**given | {"federation__rounds": 2} | settings)


def test_hospitals_are_asked_for_gradients_alone_and_epsilon_is_written_down(tmp_path: Path) -> None:
    config = private()
    run = tiny_run(tmp_path / "run", config)
    asked = carry_listening(run, config)
    assert {type(request) for request in asked} == {Train} and len(asked) == 6
    first, last = run.rounds()[1:]
    for own in last["hospitals"].values():
        assert own.keys() == {"units", "epsilon"}
        assert own["epsilon"] == pytest.approx(8.0) and own["units"] in (10, 11)
    assert all(4 < own["epsilon"] < 8 for own in first["hospitals"].values())
    assert last["val_dice"] is None
    assert {row.split(",")[4] for row in run.images_file.read_text().splitlines()[1:]} == {"heldout"}
    assert "epsilon 8.00 at delta 0.001 for each group of near-duplicates" in paragraph(config, run.rounds(), True)


def test_an_interrupted_run_goes_on_to_the_same_bits_and_spends_nothing_twice(tmp_path: Path) -> None:
    config = private()
    whole, broken = whole_and_interrupted(tmp_path, config)
    ledgers = [run.state / "hospital-1" / "privacy.jsonl" for run in (whole, broken)]
    assert [len(ledger.read_text().splitlines()) for ledger in ledgers] == [2, 2]


def test_with_drawn_units_each_hospital_spends_what_was_planned(tmp_path: Path) -> None:
    config = private(privacy__batches="poisson", privacy__batch=4)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    first, last = run.rounds()[1:]
    assert all(7.9 < own["epsilon"] <= 8.0 and own["units"] in (10, 11) for own in last["hospitals"].values())
    assert all(3 < own["epsilon"] < 8 for own in first["hospitals"].values())
    ledger = (run.state / "hospital-1" / "privacy.jsonl").read_text()
    assert [json.loads(line)["rate"] for line in ledger.splitlines()] == [
        4 / last["hospitals"]["hospital-1"]["units"]
    ] * 2
    assert "as nobody learns which units a step had" in paragraph(config, run.rounds(), True)


def with_score(**settings: Any) -> Config:
    return private(privacy__score_epsilon=2.0, **settings)


def test_after_the_last_round_each_hospital_is_asked_once_for_a_noisy_score_which_the_run_tells(
    tmp_path: Path,
) -> None:
    config = with_score(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    asked = carry_listening(run, config)
    assert [type(request) for request in asked] == [Train] * 3 + [Evaluate] * 3
    first, last = run.rounds()
    assert not noisy_scores(first) and list(noisy_scores(last)) == ["hospital-1", "hospital-2", "hospital-3"]
    sigma = config.privacy.score_noise().sigma
    for name, own in last["hospitals"].items():
        assert own.keys() == {"units", "epsilon", "noisy_test_dice", "noise_deviation"}
        assert own["epsilon"] == pytest.approx(8.574, abs=1e-3)  # of the steps and the score together
        assert own["noise_deviation"] == pytest.approx(sigma / 2 / len(run.partition().hospitals[name].test))
    said = paragraph(config, run.rounds(), True)
    assert said.startswith(
        "Privacy: epsilon 8.57 at delta 0.001 for each group of near-duplicates among a hospital's tr"
    )
    assert "a hospital's training and test images" in said and "alone it has epsilon 2" in said
    assert f"hospital-1 {noisy_scores(last)['hospital-1']}, hospital-2" in scores({"": last}, True)


def test_a_resumed_run_asks_for_no_second_score_and_an_interrupted_one_gets_the_same(tmp_path: Path) -> None:
    config = with_score(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    before = run.rounds()[1]["hospitals"]
    assert carry_listening(run, config) == []
    for file in run.checkpoints.glob("round-000001*"):  # as if it had been killed before it was written
        file.unlink()
    carry_here(run, config)
    assert run.rounds()[1]["hospitals"] == before
    ledger = (run.state / "hospital-1" / "privacy.jsonl").read_text().splitlines()
    assert [json.loads(line).get("what") for line in ledger] == [None, "score"]


def test_a_hospital_that_gives_no_score_is_told_and_the_run_is_finished(tmp_path: Path) -> None:
    def spoil(request: Request, reply: Reply) -> Reply:
        if not isinstance(request, Evaluate) or request.hospital == "hospital-3":
            return reply
        said = {"noisy_dice": 0.5, "deviation": float("nan"), "epsilon": 1.0}
        if request.hospital == "hospital-2":
            return Reply(request.hospital, Answer(said))
        return Reply(request.hospital, None, "this site spends at most epsilon 8")

    config, notes = with_score(federation__rounds=1), Notes()
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, spoil, notes)
    last = run.rounds()[1]
    assert list(noisy_scores(last)) == ["hospital-3"] and run.images_file.exists()
    assert scores({"": last}, True).endswith(
        " No score from hospital-1 (this site spends at most epsilon 8); hospital-2 (it reports a noisy Dice of 0.5, ± "
        "nan, epsilon 1.0)."
    )
    assert notes.notes[-2].endswith(
        "hospital-1 is rejected: it gives no noisy score: this site spends at most epsilon 8"
    )


def test_a_hospital_without_test_images_is_not_asked(tmp_path: Path) -> None:
    config = with_score(federation__rounds=1, hospitals__test=0.0)
    run = tiny_run(tmp_path / "run", config)
    assert {type(request) for request in carry_listening(run, config)} == {Train}
    assert scores({"": run.rounds()[1]}, True).startswith(
        "No score from hospital-1 (none of its test images has a polyp)"
    )


@pytest.mark.parametrize("without", [True, False])
def test_units_that_cannot_be_drawn_stop_a_run_before_its_first_round(
    without: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = private(privacy__batches="poisson", privacy__batch=4 if without else 15)
    run = tiny_run(tmp_path / "run", config)
    if without:
        monkeypatch.setitem(sys.modules, "dp_accounting", None)
    said = "pip install" if without else r"--batch must be at most the 10 units of hospital-1 \(--unit group\); got 15"
    with pytest.raises(UsageError, match=said):
        carry_here(run, config)
    assert run.rounds() == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"units": 14}, "it reports 14 units and an epsilon of None"),
        ({"units": True, "epsilon": 1.0}, "it reports True units"),
        ({"units": 14, "epsilon": float("nan")}, "an epsilon of nan"),
        ({"units": 200_000, "epsilon": 1.0}, "it reports 200000 units, more than 100000"),
    ],
)
def test_a_reply_that_cannot_be_is_refused(said: dict[str, Any], reason: str, tmp_path: Path) -> None:
    def spoil(request: Request, reply: Reply) -> Reply:
        assert isinstance(reply.content, Answer)
        return Reply(reply.hospital, Answer(said, reply.content.sent)) if request.hospital == "hospital-1" else reply

    config = private(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, spoil)
    (refused,) = run.rounds()[1]["refused"]
    assert refused["hospital"] == "hospital-1" and reason in refused["reason"]


def test_without_held_out_images_nothing_is_begun(tmp_path: Path) -> None:
    config = private()
    with pytest.raises(UsageError, match="the coordinator needs a held-out set of its own"):
        carry_listening(tiny_run(tmp_path / "run", config), config, heldout=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"algorithm.name": "fedavg"},
            r"whose server takes the steps \(fedavgm, fedadagrad, fedadam, fedyogi\); got",
        ),
        ({"algorithm.name": "scaffold"}, "whose server takes the steps"),
        ({"model.normalization": "batch"}, "--normalization group \\(or none\\); batch mixes images"),
        ({"model.encoder": "mobilenet-v2", "model.normalization": "batch"}, "and --frozen-statistics"),
        ({"model.encoder": "mobilenet-v2", "model.frozen_statistics": True, "model.encoder_rate": 0.5}, "rate 0 or 1"),
        ({"privacy.epsilon": 0.0}, "privacy.epsilon must be greater than 0"),
        ({"privacy.delta": 1.0}, "privacy.delta must be less than 1"),
        ({"privacy.score_epsilon": -1.0}, "privacy.score_epsilon must be greater than or equal to 0; got -1"),
        ({"privacy.score_epsilon": 1e4}, "privacy.score_epsilon must be less than or equal to 1000; got 10000"),
        ({"privacy.batches": "poisson"}, "--batches poisson needs --batch B, the expected number of units in a step"),
        (
            {"privacy.batches": "poisson", "privacy.batch": 8, "privacy.mode": "joint", "privacy.secure_sums": True},
            "privacy joint takes all units in each step .*, so they cannot share it; got poisson",
        ),
        (
            {"privacy.batches": "poisson", "privacy.batch": 8, "privacy.epsilon": 1e9},
            r"takes an epsilon of 100 at most; got 1e\+09 \(clipping alone is possible with --batches all\)",
        ),
    ],
)
def test_what_cannot_keep_a_promise_is_refused(settings: dict[str, Any], said: str) -> None:
    given = {"privacy.mode": "local", "algorithm.name": "fedadam", "model.normalization": "group"}
    with pytest.raises(UsageError, match=said):
        load(overrides=given | settings)


def test_a_delta_that_would_allow_to_publish_an_image_is_refused_before_the_first_round(tmp_path: Path) -> None:
    config = private(privacy__delta=0.1)
    with pytest.raises(UsageError, match="--delta must be below one over the 10 training images of hospital-1"):
        carry_here(tiny_run(tmp_path / "run", config), config)
