"""Hospitals' scores decide which round is the best; what cannot be is refused, and nothing goes missing unsaid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.exchange.replies import Answer, Reply
from fedpolyp.exchange.requests import Evaluate, Request
from fedpolyp.model.arrays import Arrays
from tests.same_bits import equal
from tests.tiny import Notes, carry_here, carry_listening, final, tiny_config, tiny_run, weights


def asks(request: Request, score_set: str) -> bool:
    return isinstance(request, Evaluate) and request.score_set == score_set


def scores(reply: Reply, arrays: Arrays) -> Reply:
    """The reply with other scores."""
    return replace(reply, content=Answer({}, {"scores": arrays}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": np.full((5, 4), np.nan)}, "no counts with four columns"),
        ({"counts": np.array([[2000, -976, 0, 0]] * 5)}, "do not add up to the 1024 pixels"),
        ({"counts": np.array([[1024, 1, 0, 0]] * 5)}, "do not add up to the 1024 pixels"),
        ({"losses": np.full(5, np.inf)}, "its losses are not all numbers between 0 and 1e+06"),
        ({"losses": np.zeros(5, np.int64)}, "one of losses for each image"),
        ({"losses": np.zeros(4)}, "one of losses for each image"),
    ],
)
def test_scores_that_are_none_are_refused_by_name_and_the_round_goes_on(
    tmp_path: Path, change: Arrays, reason: str
) -> None:
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)

    def spoil(request: Request, reply: Reply) -> Reply:
        if asks(request, "val") and request.hospital == "hospital-2":
            good = {"counts": np.array([[1024, 0, 0, 0]] * 5), "losses": np.zeros(5)}
            return scores(reply, good | change)
        return reply

    carry_listening(run, config, spoil)
    for record in run.rounds():
        assert [refusal["hospital"] for refusal in record["refused"]] == ["hospital-2"]
        assert reason in record["refused"][0]["reason"]
        assert "val_dice" not in record["hospitals"].get("hospital-2", {})


def test_a_round_that_lacks_a_hospitals_validation_is_not_the_best_and_bytes_down_count_tests(tmp_path: Path) -> None:
    config, notes = tiny_config(federation__rounds=2), Notes()
    run = tiny_run(tmp_path / "run", config)

    def spoil(request: Request, reply: Reply) -> Reply:
        if not asks(request, "val"):
            return reply
        if (request.hospital, request.round) == ("hospital-2", 2):
            return Reply(request.hospital, None, "no power")
        assert reply.content is not None
        images = len(reply.content.arrays("scores")["counts"])
        # The weak hospital's share of true pixels; the others' images are all found in round 2, which lacks it.
        good = 1024 if (request.hospital != "hospital-2" and request.round == 2) else 300
        return scores(reply, {"counts": np.tile([good, 1024 - good, 0, 0], (images, 1)), "losses": np.zeros(images)})

    carry_listening(run, config, spoil, notes)
    first, second = run.rounds()[1:]
    assert first["val_dice"] is not None and second["val_dice"] is None
    assert second["hospitals"]["hospital-1"]["val_dice"] == 1.0
    assert "round 2 cannot be the best on validation: the other rounds were also validated by hospital-2" in notes.notes
    model = final(run, config)
    assert model.best[""].round == 0
    weights, moments = (sum(a.nbytes for a in model.state[group].values()) for group in ("model", "optimizer"))
    training, scoring = 3 * (weights + moments), 3 * weights
    assert [record["bytes_down"] for record in run.rounds()] == [scoring, training + scoring, training + 2 * scoring]


@pytest.mark.slow
def test_a_hospital_that_fails_when_it_is_scored_costs_its_scores_and_nothing_else(tmp_path: Path) -> None:
    def spoil(request: Request, reply: Reply) -> Reply:
        if (request.kind, request.hospital, request.round) == ("evaluate", "hospital-1", 2):
            return Reply(request.hospital, None, "no light")
        return reply

    config = tiny_config(federation__rounds=2)
    run, notes = tiny_run(tmp_path / "run", config), Notes()
    carry_listening(run, config, spoil, notes)
    last = run.rounds()[-1]
    assert [refusal["hospital"] for refusal in last["refused"]] == ["hospital-1"]  # once: both failed alike
    assert "val_dice" not in last["hospitals"]["hospital-1"] and "val_dice" in last["hospitals"]["hospital-2"]
    assert "the scores of hospital-1 are missing from images.csv: no light" in notes.notes
    rows = run.images_file.read_text()
    assert "last,2,test:hospital-1" not in rows and "last,2,test:hospital-2" in rows
    whole = tiny_run(tmp_path / "whole", config)
    carry_here(whole, config)
    assert equal(weights(run, config), weights(whole, config))


def test_without_validation_images_there_is_no_validation_dice_and_the_last_model_is_the_best(tmp_path: Path) -> None:
    config = tiny_config(hospitals__val=0.0, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    assert [record["val_dice"] for record in run.rounds()] == [None, None]
    assert final(run, config).best[""].round == 1


def test_each_hospitals_own_validation_judges_its_own_model(tmp_path: Path) -> None:
    config, best = tiny_config(algorithm__name="local", federation__rounds=2), {"hospital-1": 0, "hospital-2": 1}

    def spoil(request: Request, reply: Reply) -> Reply:
        if not asks(request, "val"):
            return reply
        assert reply.content is not None
        images = len(reply.content.arrays("scores")["counts"])
        good = 1024 if best.get(request.hospital, 2) == request.round else 300
        return scores(reply, {"counts": np.tile([good, 1024 - good, 0, 0], (images, 1)), "losses": np.zeros(images)})

    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, spoil)
    found = {mark: own.round for mark, own in final(run, config).best.items()}
    assert found == {"hospital-1": 0, "hospital-2": 1, "hospital-3": 2}
    rows = [line.split(",") for line in run.images_file.read_text().splitlines()[1:]]
    assert {(row[2], int(row[3])) for row in rows if row[2].startswith("best:")} == {
        (f"best:{name}", round) for name, round in found.items()
    }


@pytest.mark.slow
def test_the_tests_that_stand_in_for_a_held_out_set_are_asked_for_once_in_a_round(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    asked = carry_listening(run, config, heldout=False)
    tests = [(request.round, request.distances) for request in asked if asks(request, "test")]  # type: ignore[attr-defined]
    best = final(run, config).best[""].round
    again = 0 if best == 1 else 3  # the best model for images.csv
    assert tests[:6] == [(0, False)] * 3 + [(1, True)] * 3 and len(tests) == 6 + again
