"""What hospitals are asked: as much as a round needs, with what they need to know, and at sites no folder of ours."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import Start
from fedpolyp.checkpoints import Best, Checkpoint
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.exchange.in_process import InProcess
from fedpolyp.exchange.requests import Evaluate, Request, Train
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.counted import Counted
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.training import learning_rate, shared_trainer
from fedpolyp.watcher import Watcher
from tests.tiny import carry_listening, tiny_config, tiny_run


@pytest.mark.slow
def test_what_a_round_asks_does_not_grow_with_the_number_of_hospitals(tmp_path: Path) -> None:
    asked = []
    for count, fraction in ((4, 1.0), (8, 0.5)):
        config = tiny_config(hospitals__count=count, federation__fraction=fraction, federation__rounds=2)
        run = tiny_run(tmp_path / str(count), config)
        requests = carry_listening(run, config)
        val = [request.round for request in requests if isinstance(request, Evaluate) and request.score_set == "val"]
        train = [request.round for request in requests if isinstance(request, Train)]
        asked.append([val.count(0), val.count(1) + train.count(1)])
        panels = [{name for name, own in record["hospitals"].items() if "val_dice" in own} for record in run.rounds()]
        assert panels[0] == panels[1] == panels[2] and len(panels[0]) == 4
        assert sum("test_dice" in own for own in run.rounds()[-1]["hospitals"].values()) == count
    assert asked[0] == asked[1] == [4, 8]


class Tasks(Watcher):
    def __init__(self) -> None:
        self.heard: list[tuple[str, int, str, object]] = []

    def asked(self, round: int, task: str, hospitals) -> None:  # type: ignore[no-untyped-def]
        self.heard.append(("asked", round, task, list(hospitals)))

    def replied(self, round: int, task: str, hospital: str, reason: str) -> None:
        self.heard.append(("replied", round, task, hospital))


def test_a_watcher_hears_who_is_asked_for_what_and_of_every_reply(tmp_path: Path) -> None:
    config, tasks = tiny_config(federation__rounds=1), Tasks()
    run = tiny_run(tmp_path / "run", config)
    carry_listening(run, config, watcher=tasks)
    names = sorted(run.partition().hospitals)
    for round, task in ((0, "val"), (1, "train"), (1, "val"), (1, "test")):
        assert ("asked", round, task, names) in tasks.heard
        assert [one for one in tasks.heard if one[:3] == ("replied", round, task)][:3] == [
            ("replied", round, task, name) for name in names
        ]


def test_each_training_is_asked_for_at_its_rounds_rate(tmp_path: Path) -> None:
    config = tiny_config(training__warmup_rounds=1)
    asked = carry_listening(tiny_run(tmp_path / "run", config), config)
    rates = {request.round: request.learning_rate for request in asked if isinstance(request, Train)}
    assert rates == {number: learning_rate(config, number) for number in (1, 2, 3)} and len(set(rates.values())) > 1


@pytest.mark.parametrize("at_sites", [False, True])
def test_a_request_says_where_the_run_lies_in_a_simulation_and_no_folder_at_sites(
    tmp_path: Path, at_sites: bool
) -> None:
    config = tiny_config(algorithm__name="fedprox", algorithm__mu=0.5)
    run, store = tiny_run(tmp_path / "run", config), open_source(config.data, config.seed)
    experiment = Experiment(config, run, store, run.partition(), Watcher(), threading.Event(), "r1" if at_sites else "")
    asked: list[Request] = []

    class Keeping(InProcess):
        def send(self, requests, arrived):  # type: ignore[no-untyped-def]
            asked.extend(request for request, _ in requests)
            return iter(())

    asking = Asking(experiment, Keeping(lambda name: pytest.fail(name)), Counted())
    asking.score(0, experiment.algorithm.begin(shared_trainer(config).start), "val", ["hospital-1"])
    (request,) = asked
    assert isinstance(request, Evaluate)
    told = Config.model_validate_json(request.config)
    assert told.algorithm == config.algorithm and told.training == config.training
    if at_sites:
        assert (request.run, request.run_folder, request.store) == ("r1", "", "")
        assert str(tmp_path) not in str(request) and str(store.path) not in str(request)
    else:
        assert (request.run, request.run_folder, request.store) == ("", str(run.path), str(store.path))
        assert told == config


def test_a_hospital_keeps_the_state_of_the_oldest_checkpoint_and_of_the_best_model(tmp_path: Path) -> None:
    config = tiny_config(training__optimizer_state="keep", federation__rounds=9)
    run = tiny_run(tmp_path / "run", config)
    experiment = Experiment(config, run, None, run.partition(), Watcher(), threading.Event())
    start = shared_trainer(config).start
    before = Checkpoint(8, run.fingerprint(), experiment.algorithm.begin(Start(start.model, {})), {"": Best(4, 0.5)})
    for number in (6, 7):
        checkpoints.save(run.checkpoints, replace(before, round=number, best={"": Best(4, 0.5)}), keep=2)
    asked: list[Request] = []

    class Keeping(InProcess):
        def send(self, requests, arrived):  # type: ignore[no-untyped-def]
            asked.extend(request for request, _ in requests)
            return iter(())

    # One counted in each round, the other in few.
    counted = Counted({"hospital-1": list(range(1, 9)), "hospital-2": [2, 5]})
    asking = Asking(experiment, Keeping(lambda name: pytest.fail(name)), counted)
    asking.train(9, ["hospital-1", "hospital-2", "hospital-3"], before, before.state)
    kept = [(one.counted, one.keep_from, one.keep_best) for one in asked if isinstance(one, Train)]
    assert kept == [(8, 6, 4), (5, 5, 2), (0, 0, 0)]


def test_what_was_best_at_the_oldest_checkpoint_is_kept_though_a_later_round_was_better(tmp_path: Path) -> None:
    config = tiny_config(algorithm__name="fedbn", federation__rounds=9)
    run = tiny_run(tmp_path / "run", config)
    experiment = Experiment(config, run, None, run.partition(), Watcher(), threading.Event())
    state = experiment.algorithm.begin(shared_trainer(config).start)
    before = Checkpoint(8, run.fingerprint(), state, {"": Best(8, 0.9)})
    checkpoints.save(run.checkpoints, replace(before, round=7, best={"": Best(2, 0.5)}), keep=2)
    checkpoints.save(run.checkpoints, before, keep=2)
    asked: list[Request] = []

    class Keeping(InProcess):
        def send(self, requests, arrived):  # type: ignore[no-untyped-def]
            asked.extend(request for request, _ in requests)
            return iter(())

    asking = Asking(experiment, Keeping(lambda name: pytest.fail(name)), Counted({"hospital-1": list(range(1, 9))}))
    asking.train(9, ["hospital-1"], before, before.state)
    assert [(one.keep_from, one.keep_best) for one in asked if isinstance(one, Train)] == [(7, 2)]
