"""A hospital's private state is that of its last training that counted: never that of a refused one, nor a lost one."""

import random
from pathlib import Path

import pytest

from fedpolyp.checkpoints import checkpoint_path
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.replies import Reply
from fedpolyp.exchange.requests import Request, Train
from fedpolyp.rounds.counted import Counted
from tests.same_bits import equal
from tests.tiny import carry_here, carry_listening, federate, tiny_config, tiny_run, weights


def test_the_last_round_that_counted_is_told_for_every_round_as_a_plain_search_has_it() -> None:
    draw = random.Random(0)
    for _ in range(200):
        rounds = sorted(draw.sample(range(1, 30), draw.randint(0, 8)))
        counted = Counted()
        for round in rounds:
            counted.add("oslo", round)
        for round in range(32):
            assert counted.last("oslo", round) == max((one for one in rounds if one <= round), default=0)
        assert counted.last("bergen", 31) == 0


def test_a_resumed_run_knows_from_its_records_who_trained_and_not_who_was_only_scored() -> None:
    records = [
        {"round": 0, "hospitals": {"oslo": {"val_dice": 0.1}}},
        {"round": 1, "hospitals": {"oslo": {"train_loss": 0.5, "images": 4}, "bergen": {"val_dice": 0.2}}},
        {"round": 2, "hospitals": {"oslo": {"val_dice": 0.3}, "bergen": {"train_loss": 0.4, "images": 9}}},
    ]
    assert Counted.of(records).rounds == {"oslo": [1], "bergen": [2]}


def counted_of(asked: list[Request], hospital: str) -> list[tuple[int, int]]:
    """Round and `counted` of the requests to train."""
    return [(one.round, one.counted) for one in asked if isinstance(one, Train) and one.hospital == hospital]


@pytest.mark.parametrize("stay", ["optimizer", "fedbn"])
def test_private_state_of_a_refused_update_is_never_read(tmp_path: Path, stay: str) -> None:
    named = {"training__optimizer_state": "keep"} if stay == "optimizer" else {"algorithm__name": "fedbn"}
    config = tiny_config(**named)
    run = tiny_run(tmp_path / "run", config)
    refused = run.state / "hospital-2" / "000002.npz"

    def spoil(request: Request, reply: Reply) -> Reply:
        if (request.kind, request.round, request.hospital) != ("train", 2, "hospital-2"):
            return reply
        assert refused.exists()
        refused.write_bytes(b"whoever reads this fails")
        return Reply(request.hospital, None, "its reply was lost")

    asked = carry_listening(run, config, spoil)
    assert counted_of(asked, "hospital-2") == [(1, 0), (2, 1), (3, 1)]
    assert counted_of(asked, "hospital-1") == [(1, 0), (2, 1), (3, 2)]
    scored = [one for one in asked if one.kind == "evaluate" and one.hospital == "hospital-2"]
    assert {(one.round, one.counted) for one in scored} == {(0, 0), (1, 1), (2, 1), (3, 3)}


def test_a_run_resumed_after_a_refusal_reads_the_state_that_one_never_interrupted_reads(tmp_path: Path) -> None:
    config = tiny_config(training__optimizer_state="keep")
    whole, broken = tiny_run(tmp_path / "whole", config), tiny_run(tmp_path / "broken", config)

    def lost(request: Request, reply: Reply) -> Reply:
        lies = (request.kind, request.round, request.hospital) == ("train", 2, "hospital-2")
        return Reply(request.hospital, None, "its reply was lost") if lies else reply

    def lost_and_killed(request: Request, reply: Reply) -> Reply:
        if (request.kind, request.round) == ("train", 3):
            raise KeyboardInterrupt
        return lost(request, reply)

    carry_listening(whole, config, lost)
    with pytest.raises(KeyboardInterrupt):
        carry_listening(broken, config, lost_and_killed)
    assert counted_of(carry_listening(broken, config, lost), "hospital-2") == [(3, 1)]
    assert equal(weights(whole, config), weights(broken, config))


def test_private_state_that_is_gone_is_an_error_and_no_fresh_start(tmp_path: Path) -> None:
    config = tiny_config(training__optimizer_state="keep", federation__min_replies=1.0)
    run = tiny_run(tmp_path / "run", config)

    def lose(request: Request, reply: Reply) -> Reply:
        if (request.kind, request.round, request.hospital) == ("train", 1, "hospital-2"):
            (run.state / "hospital-2" / "000001.npz").unlink()
        return reply

    with pytest.raises(FedpolypError, match="^the private state of round 1 is gone: there is no .*000001.npz$"):
        carry_listening(run, config, lose)
    assert checkpoint_path(run.checkpoints, 1).exists() and not checkpoint_path(run.checkpoints, 2).exists()
    # By way of messages it is that hospital's failure, and named.
    with pytest.raises(FedpolypError, match="round 2 stopped: 2 of 3 .*hospital-2: .*state of round 1 is gone"):
        federate(run, config)


def test_a_run_without_private_state_asks_for_none_and_leaves_none(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1, training__optimizer_state="average")
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    assert not list(run.path.rglob("state/*/*.npz"))
