"""A run with secure sums: the bits of the plain sum, whoever is lost, and nothing that tells of a single update."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from fedpolyp import checkpoints
from fedpolyp.aggregation.opaque import MASKED, SEED, SUM
from fedpolyp.algorithms.base import MODEL
from fedpolyp.config import Config, load
from fedpolyp.errors import FedpolypError, Refusal, UsageError
from fedpolyp.exchange.replies import Answer, Reply
from fedpolyp.exchange.requests import Evaluate, Request, Train, Unmask, listed, named
from fedpolyp.hospital import masking
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.in_simulation import images_of
from fedpolyp.privacy import secure_sum
from fedpolyp.privacy.words import paragraph
from fedpolyp.rounds.loop import MOST_LOST
from fedpolyp.rounds.replies import BadReply, read_masked, read_opening
from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import FileWatcher, new_lines, progress_file
from tests.tiny import (
    Notes,
    carry_here,
    carry_listening,
    federate,
    final,
    same_state,
    tiny_config,
    tiny_run,
    weights,
    whole_and_interrupted,
)

ALL = ["hospital-1", "hospital-2", "hospital-3"]


def secured(**settings: Any) -> Config:
    given = {"privacy__secure_sums": True, "training__optimizer_state": "reset", "training__local_epochs": 1}
    return tiny_config(**given | {"federation__rounds": 2, "data__phantom_images": 30} | settings)


TWO_ARE_ENOUGH = {"privacy__secure_least": 2, "privacy__colluders": 0}


def lost(hospital: str, kind: type[Request], rounds: tuple[int, ...] = (1,)) -> Any:
    """Loses the replies of a hospital to requests of a kind."""

    def spoil(request: Request, reply: Reply) -> Reply:
        gone = request.hospital == hospital and isinstance(request, kind) and request.round in rounds
        return Reply(hospital, None, "its link has failed") if gone else reply

    return spoil


@pytest.fixture
def unmasked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Fixed-point sums whose masks are all zero."""
    monkeypatch.setattr(secure_sum, "_add", lambda total, seed, takes_off=False: None)
    return monkeypatch


@pytest.mark.parametrize("gone", [None, "hospital-1"])
def test_masked_and_unmasked_runs_have_the_same_bits_with_a_hospital_lost_too(
    gone: str | None, tmp_path: Path, unmasked: pytest.MonkeyPatch
) -> None:
    config = secured(federation__rounds=1, **TWO_ARE_ENOUGH)
    spoil = lost(gone, Train) if gone else (lambda request, reply: reply)
    plain, masked = tiny_run(tmp_path / "plain", config), tiny_run(tmp_path / "masked", config)
    carry_listening(plain, config, spoil)
    unmasked.undo()
    carry_listening(masked, config, spoil)
    assert same_state(final(plain, config), final(masked, config))
    assert sorted(masked.rounds()[1]["hospitals"]) == ALL
    trained = [name for name, own in masked.rounds()[1]["hospitals"].items() if "train_loss" in own]
    assert trained == [name for name in ALL if name != gone]
    if gone is None:
        floats = secured(federation__rounds=1, privacy__secure_sums=False)
        carry_here(usual := tiny_run(tmp_path / "usual", floats), floats)
        one, other = weights(masked, config), weights(usual, floats)
        assert 0 < max(float(np.abs(one[name] - other[name]).max()) for name in one) < 1e-6


def test_by_way_of_messages_the_same_bits_and_no_reply_holds_an_update(tmp_path: Path) -> None:
    config = secured(federation__rounds=1, federation__weights="equal")
    here, messages = tiny_run(tmp_path / "here", config), tiny_run(tmp_path / "messages", config)
    clear: list[np.ndarray] = []

    def keep(request: Request, reply: Reply) -> Reply:
        assert isinstance(reply.content, Answer)
        if isinstance(request, Train):
            assert reply.content.said.keys() == {"images", "train_loss", "steps"}
            assert {group: list(arrays) for group, arrays in reply.content.sent.items()} == {MASKED: [SUM]}
            clear.append(reply.content.sent[MASKED][SUM])
        elif isinstance(request, Unmask):
            assert {group: list(arrays) for group, arrays in reply.content.sent.items()} == {MASKED: [SEED]}
        return reply

    asked = carry_listening(here, config, keep)
    assert [type(one) for one in asked if not isinstance(one, Evaluate)] == [Train] * 3 + [Unmask] * 3
    assert all(named(one.members) == ALL for one in asked if isinstance(one, Train | Unmask))
    federate(messages, config, watcher=FileWatcher(progress_file(messages), ""))
    assert same_state(final(here, config), final(messages, config))
    told, _ = new_lines(progress_file(messages), 0)
    assert len(told) == len(progress_file(messages).read_text().splitlines())  # all of it can be read by others
    assert sum(event["event"] == "replied" and event["task"] == "unmask" for event in told) == 3
    for words in (*clear, clear[0] - clear[1], clear[0] + clear[1] + clear[2]):
        counts = np.bincount((words >> np.uint64(56)).astype(int), minlength=256)
        assert np.sum((counts - len(words) / 256) ** 2 / (len(words) / 256)) < chi2.ppf(1 - 1e-6, 255)


def test_an_interrupted_run_goes_on_to_the_same_bits_and_opens_no_sum_twice(tmp_path: Path) -> None:
    config = secured()
    whole, broken = whole_and_interrupted(tmp_path, config)
    files = [run.state / "hospital-1" / "openings.jsonl" for run in (whole, broken)]
    assert files[0].read_text() == files[1].read_text() and files[0].read_text().count("\n") == 2


def test_a_hospital_that_does_not_open_costs_the_round_and_the_run_goes_on(tmp_path: Path) -> None:
    config, notes = secured(), Notes()
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, lost("hospital-2", Unmask), notes)
    start, first, second = run.rounds()
    assert first["lost"] == "the sum is closed: hospital-2 did not open it" and "lost" not in second
    assert f"round 1 is lost: {first['lost']}" in notes.notes
    assert first["dice"] == start["dice"] and first["loss"] == start["loss"]
    assert not any("train_loss" in own for own in first["hospitals"].values())
    assert all("train_loss" in own for own in second["hospitals"].values())
    # Nobody opens a second sum of that round, not even for those that are left.
    hospital = in_run(run, config, "hospital-1")
    with pytest.raises(Refusal, match="in round 1 this hospital was told of other survivors|has masked nothing"):
        masking.unmask(unmask_of("hospital-1", run, config, 1, ["hospital-1", "hospital-3"]), hospital)


def in_run(run: RunFolder, config: Config, name: str) -> Hospital:
    return Hospital(name, config, None, images_of(run.partition(), name), run.state / name)  # type: ignore[arg-type]


def unmask_of(name: str, run: RunFolder, config: Config, round: int, survivors: list[str]) -> Unmask:
    members, told = listed(ALL), listed(survivors)
    return Unmask(name, round, config.model_dump_json(), run_folder=str(run.path), members=members, survivors=told)


@pytest.mark.slow
def test_rounds_that_are_lost_one_after_the_other_stop_the_run_and_it_goes_on(tmp_path: Path) -> None:
    config = secured(federation__rounds=MOST_LOST + 1)
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(FedpolypError, match="3 rounds in a row were lost, the last one for this: the sum is closed"):
        carry_listening(run, config, lost("hospital-2", Unmask, (1, 2, 3)))
    carry_listening(run, config)
    assert [bool(record.get("lost")) for record in run.rounds()] == [False, True, True, True, False]


@pytest.mark.slow
def test_a_run_all_of_whose_rounds_are_lost_does_not_end_well(tmp_path: Path) -> None:
    config = secured(federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    for _ in range(2):
        with pytest.raises(FedpolypError, match="all 1 rounds were lost, so nothing was learned"):
            carry_listening(run, config, lost("hospital-2", Unmask))


@pytest.mark.parametrize("changed", [SUM, SEED])
def test_a_sum_that_does_not_open_is_never_taken_for_one(changed: str, tmp_path: Path) -> None:
    def spoil(request: Request, reply: Reply) -> Reply:
        kind = Train if changed == SUM else Unmask
        if not (isinstance(request, kind) and request.hospital == "hospital-2" and request.round == 1):
            return reply
        assert isinstance(reply.content, Answer)
        array = reply.content.sent[MASKED][changed] ^ 1
        return replace(reply, content=replace(reply.content, sent={MASKED: {changed: array}}))

    config = secured(federation__rounds=2, runtime__keep_checkpoints=3)
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, spoil)
    assert run.rounds()[1]["lost"] and weights_of(run, config, 1) == weights_of(run, config, 0)


def weights_of(run: RunFolder, config: Config, round: int) -> list[bytes]:
    state = checkpoints.load(run.checkpoints, round, run.fingerprint()).state
    return [array.tobytes() for array in state[MODEL].values()]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (lambda words: {MODEL: {"a": words}}, "it sends model, which was not asked for"),
        (lambda words: {MASKED: {SUM: words[1:]}}, "it sends no sum of"),
        (lambda words: {MASKED: {SUM: words.view(np.int64)}}, "it sends no sum of"),
        (lambda words: {MASKED: {SUM: words, SEED: words}}, "it sends no sum of"),
        (lambda words: {}, "it sends no sum of"),
    ],
)
def test_what_is_no_masked_update_is_refused(sent: Any, reason: str) -> None:
    like, words = {MODEL: {"a": np.zeros((2, 3), np.float32)}}, np.zeros(7, np.uint64)
    said = {"images": 8, "train_loss": 0.5, "steps": 2}
    assert read_masked(Reply("oslo", Answer(said, {MASKED: {SUM: words}})), like, secured()).weight == 8
    with pytest.raises(BadReply, match=reason):
        read_masked(Reply("oslo", Answer(said, sent(words))), like, secured())


@pytest.mark.parametrize(
    ("sent", "lost", "reason"),
    [
        ({SEED: np.zeros(32, np.uint8)}, True, "it sends no sum of 7 numbers of type uint64"),
        ({SUM: np.zeros(7, np.uint64)}, False, "it sends no seed of 32 numbers of type uint8"),
        ({SEED: np.zeros(16, np.uint8)}, False, "it sends no seed of 32"),
        ({SEED: np.zeros(32, np.uint8), SUM: np.zeros(7, np.uint64)}, False, "it sends no seed of 32"),
    ],
)
def test_what_opens_nothing_is_refused(sent: Any, lost: bool, reason: str) -> None:
    like = {MODEL: {"a": np.zeros((2, 3), np.float32)}}
    with pytest.raises(BadReply, match=reason):
        read_opening(Reply("oslo", Answer({}, {MASKED: sent})), like, lost)


def test_with_too_few_survivors_nothing_is_opened(tmp_path: Path) -> None:
    config = secured()
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(FedpolypError, match="2 of 3 hospitals sent usable replies, 3 are needed"):
        carry_listening(run, config, lost("hospital-2", Train))
    assert not list(run.state.glob("*/openings.jsonl"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm.name": "median"}, "that make a weighted mean of what hospitals send, as fedavg.*; got median"),
        ({"algorithm.name": "cyclic"}, "got cyclic"),
        ({"algorithm.name": "scaffold"}, "got scaffold"),
        ({"algorithm.name": "local"}, "got local"),
        ({"federation.max_weight": 0.4}, "weights that each hospital knows by itself: not --max-weight"),
        ({"federation.per_step": True}, "nor --per-step"),
        ({"training.optimizer_state": "average"}, "--optimizer-state reset or keep; got average"),
        ({"privacy.secure_least": 2}, "privacy.secure_least must be 3 at least, or privacy.colluders smaller"),
        ({"privacy.secure_least": 1}, "privacy.secure_least must be greater than or equal to 2"),
        (
            {"privacy.secure_sums": False, "privacy.mode": "joint"},
            "privacy joint needs secure sums \\(--secure-sums\\)",
        ),
        (
            {"privacy.mode": "joint", "model.normalization": "group", "federation.weights": "equal"},
            "privacy joint takes --weights images",
        ),
    ],
)
def test_what_no_sum_can_tell_is_refused_in_a_sentence(settings: dict[str, Any], said: str) -> None:
    given = {"privacy.secure_sums": True, "training.optimizer_state": "keep"}
    with pytest.raises(UsageError, match=said):
        load(overrides=given | settings)


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedbn", "finetune", "fedadam", "fedavgm", "fedyogi"])
def test_algorithms_of_a_weighted_mean_are_taken(name: str) -> None:
    load(overrides={"privacy.secure_sums": True, "training.optimizer_state": "keep", "algorithm.name": name})


JOINT = {"privacy__mode": "joint", "algorithm__name": "fedadam", "model__normalization": "group", **TWO_ARE_ENOUGH}


def test_joint_noise_is_shared_and_a_lost_hospital_raises_no_epsilon(tmp_path: Path) -> None:
    config = secured(**JOINT)
    run = tiny_run(tmp_path / "run", config)
    asked = carry_listening(run, config, lost("hospital-1", Train, (1, 2)))
    assert {type(one) for one in asked} == {Train, Unmask}
    for name in ALL[1:]:
        own = run.rounds()[2]["hospitals"][name]
        assert own.keys() == {"units", "epsilon"} and own["epsilon"] == pytest.approx(8.0)
    lines = (run.state / "hospital-2" / "privacy.jsonl").read_text().splitlines()
    assert [json.loads(line)["sharers"] for line in lines] == [2, 2]
    said = paragraph(config, run.rounds(), simulated=True)
    assert "epsilon 8.00 at delta 0.001" in said
    assert "It holds as long as no hospital helps the coordinator: a sum of 2 or more hospitals has the noise" in said
    change = weights(run, config)
    start = checkpoints.load(run.checkpoints, 1, run.fingerprint()).models[""]
    assert any((change[name] != start[name]).any() for name in change)


def test_a_lost_round_keeps_what_it_has_cost(tmp_path: Path) -> None:
    config = secured(**JOINT)
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, lost("hospital-2", Unmask, (2,)))
    last = run.rounds()[2]
    assert last["lost"] and all(own == {"epsilon": pytest.approx(8.0)} for own in last["hospitals"].values())
    assert "epsilon 8.00" in paragraph(config, run.rounds(), simulated=True)


def test_more_hospitals_than_a_round_has_are_refused_before_it_begins(tmp_path: Path) -> None:
    config = secured(privacy__secure_least=4)
    with pytest.raises(UsageError, match="secure sums are of 4 hospitals at least; in a round there are 3"):
        carry_here(tiny_run(tmp_path / "run", config), config)
