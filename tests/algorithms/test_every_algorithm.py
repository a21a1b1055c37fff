"""What every algorithm keeps to: same seed, same bits, and the same bits in a run resumed after any round."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.errors import Interrupted
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from fedpolyp.watcher import Watcher
from tests.same_bits import equal
from tests.tiny import StopAfter, federate, final, tiny_config, tiny_run

# Five hospitals, which Krum needs, and one more round than a checkpoint back.
SMALL: dict[str, Any] = {
    "hospitals__count": 5,
    "training__local_epochs": 1,
    "federation__rounds": 3,
    "data__phantom_images": 40,
}
OPTIONS: dict[str, dict[str, Any]] = {name: {"algorithm__name": name} for name in BUILT_IN} | {
    "one of a user's own": {"algorithm__name": "tests.algorithms.own_algorithm:Damped"},
    "fedavg, optimizers kept": {"training__optimizer_state": "keep"},
    "fedavg, optimizers reset, bfloat16": {"training__optimizer_state": "reset", "training__wire": "bfloat16"},
    "scaffold, some sampled": {"algorithm__name": "scaffold", "federation__fraction": 0.6},
    "fedbn, some away": {"algorithm__name": "fedbn", "federation__drop_rate": 0.3, "federation__min_replies": 0.2},
    "fedavg, steps, capped": {"training__local_steps": 5, "federation__max_weight": 0.21, "federation__per_step": True},
}


# Of each kind one: what is averaged, collected, kept at hospitals, carried on, sampled; the others are among the slow.
QUICK = ("local", "fedadam", "median", "cyclic", "scaffold, some sampled", "fedbn, some away", "fedavg, steps, capped")


@pytest.fixture(params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in OPTIONS])
def config(request: pytest.FixtureRequest) -> Config:
    return tiny_config(**SMALL | OPTIONS[request.param])


def carried(folder: Path, config: Config, stop_after: int | None = None) -> RunFolder:
    run = tiny_run(folder, config)
    store = open_source(config.data, config.data_seed)
    stop = threading.Event()
    watcher = Watcher() if stop_after is None else StopAfter(stop_after, stop)
    try:
        here.run(config, run, store, run.partition(), watcher, stop)
    except Interrupted:
        assert stop_after is not None
        here.run(config, run, store, run.partition(), Watcher(), threading.Event())
    return run


def assert_same(one: RunFolder, other: RunFolder, config: Config) -> None:
    first, second = final(one, config), final(other, config)
    assert first.state.keys() == second.state.keys()
    assert all(equal(first.state[group], second.state[group]) for group in first.state)
    assert first.best == second.best
    assert one.images_file.read_bytes() == other.images_file.read_bytes()


def test_same_seed_same_bits_and_a_resumed_run_too(config: Config, tmp_path: Path) -> None:
    whole = carried(tmp_path / "whole", config)
    assert_same(whole, carried(tmp_path / "stopped", config, 1), config)
    rounds = whole.rounds()
    assert rounds[-1]["dice"] != rounds[0]["dice"]  # something was learned, or at least done


@pytest.mark.slow
def test_resumed_after_any_round_and_by_way_of_messages_same_bits(config: Config, tmp_path: Path) -> None:
    whole = carried(tmp_path / "whole", config)
    for round in (0, 2, 3):
        assert_same(whole, carried(tmp_path / f"stopped-{round}", config, round), config)
    if config.federated:
        federate(messages := tiny_run(tmp_path / "messages", config), config)
        assert_same(whole, messages, config)
