"""An observer of a user's own, by `module:Class`."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import load
from fedpolyp.errors import UsageError
from fedpolyp.planning import Machine, planned
from tests.rounds.observers import own_observer
from tests.test_command_line import ROOT
from tests.tiny import carry_here, final, tiny_config, tiny_run

NAME = "tests.rounds.observers.own_observer:Norms"


def length(last: Checkpoint) -> float:
    return sum(float((array.astype("f8") ** 2).sum()) for array in last.models[""].values()) ** 0.5


def test_it_sees_every_round_and_leaves_the_run_s_bits_and_fingerprint_as_they_are(tmp_path: Path) -> None:
    plain, seen = (
        tiny_config(federation__rounds=2, training__local_epochs=1, **own) for own in ({}, {"runtime__observers": NAME})
    )
    runs = tiny_run(tmp_path / "plain", plain), tiny_run(tmp_path / "seen", seen)
    for run, config in zip(runs, (plain, seen), strict=True):
        carry_here(run, config)
    rows = [line.split(",") for line in (tmp_path / "seen" / "norms.csv").read_text().splitlines()]
    assert [int(round) for round, _, _ in rows] == [0, 1, 2]
    assert float(rows[-1][2]) == pytest.approx(length(final(runs[0], plain)), abs=1e-6)
    assert runs[0].fingerprint() == runs[1].fingerprint()
    assert not (tmp_path / "plain" / "norms.csv").exists()


def test_one_that_ends_the_run_leaves_what_a_run_of_so_many_rounds_leaves_and_its_reason(tmp_path: Path) -> None:
    alike: dict[str, Any] = {"training__schedule": "constant", "algorithm__name": "finetune"}
    ended = tiny_config(**alike, runtime__observers="tests.rounds.observers.own_observer:AfterOne")
    short = tiny_config(**alike, federation__rounds=1)
    runs = {name: tiny_run(tmp_path / name, config) for name, config in (("ended", ended), ("short", short))}
    carry_here(runs["ended"], ended)
    carry_here(runs["short"], short)
    assert runs["ended"].stopped == "one round is enough"
    ours, theirs = (run.rounds() for run in runs.values())
    for record in (*ours, *theirs):
        del record["seconds"]
    assert ours == [*theirs[:-1], theirs[-1] | {"stopped": "one round is enough"}]
    assert runs["ended"].images_file.read_bytes() == runs["short"].images_file.read_bytes()
    runs["ended"].images_file.unlink()
    carry_here(runs["ended"], ended)
    assert [record["round"] for record in runs["ended"].rounds()] == [0, 1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_module:Mine", "the observer no_such_module:Mine cannot be loaded: there is no such module; put its"),
        ("tests.tiny:Mine", "the observer tests.tiny:Mine cannot be loaded: module 'tests.tiny' has no attribute"),
        ("tests.tiny:Notes", "tests.tiny:Notes is not a subclass of fedpolyp.rounds.observers.observer.Observer"),
    ],
)
def test_one_that_is_none_is_refused_before_anything_is_trained(tmp_path: Path, name: str, sentence: str) -> None:
    config = tiny_config(runtime__observers=name)

    def simulated() -> None:
        planned(config, Machine(2, 8_000_000_000, 0, False))
        carry_here(tiny_run(tmp_path / "run", config), config)

    with pytest.raises(UsageError) as refused:
        simulated()
    assert sentence in str(refused.value)
    assert not (tmp_path / "run" / "rounds.jsonl").exists()


@pytest.mark.parametrize("name", ["Mine", "a:b:c", "a:", ":b", "a:b,", "a/b:c"])
def test_a_name_that_is_no_module_and_class_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"runtime\.observers"):
        load(overrides={"runtime.observers": name})


def test_the_page_shows_it_as_it_is_tested() -> None:
    assert inspect.getsource(own_observer.Norms) in (ROOT / "docs" / "extending.md").read_text()
